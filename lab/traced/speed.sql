-- After sqlite's own speed test: inserts in order and at random, an index, ranges, text searches, updates, joins, deletes.
create table z1(a integer, b integer, c text);
create table z2(a integer primary key, b integer, c text);
create table t3(a integer, b integer, c text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000)
  insert into z1 select i, i * 104729 % 100000, printf('number %d of many %s', i * 7919 % 100003, hex(zeroblob(i % 40))) from n;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000)
  insert into z2 select 1 + i * 104729 % 60013, i, printf('row %d', i * 7919 % 60013) from n;
.print READY
