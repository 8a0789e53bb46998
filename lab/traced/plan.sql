create table item(id int, kind int, price float8, note text);
insert into item select i, i::bigint * 7919 % 2003, (i::bigint * 104729 % 100000) / 7.0, 'note ' || i from generate_series(1, 150000) i;
create table stock(item int, place int, count int);
insert into stock select 1 + i::bigint * 104729 % 150000, i % 97, i % 13 from generate_series(1, 200000) i;
analyze;
select 'READY';
