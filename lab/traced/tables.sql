-- Customers and their sales.
create table customer(id integer primary key, name text, city integer);
create table sale(id integer primary key, customer integer, amount real, note text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000)
  insert into customer select i, 'customer ' || (i * 7919 % 60013), i % 997 from n;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 400000)
  insert into sale select i, 1 + i * 104729 % 60000, i % 1000, printf('note %d %s', i, hex(zeroblob(20))) from n;
.print READY
