create index z1b on z1(b);
create index z1c on z1(c);
select count(*), avg(b) from z1 where b between 20000 and 40000;
select count(*) from z1 where c like '%99%';
update z1 set b = b + 1 where a % 7 = 0;
update z2 set b = b * 2 where a between 1000 and 20000;
select count(*), sum(z2.b) from z1 join z2 on z2.a = z1.b where z1.a % 3 = 0;
insert into t3 select b, a, c from z1 order by c;
delete from z1 where b between 10000 and 30000;
select count(*) from (select distinct c from t3 order by c desc);
.print DONE
