set work_mem = '256MB';
set max_parallel_workers_per_gather = 0;
select place, count(*), sum(price * count) from stock join item on item.id = stock.item group by place order by 3 desc limit 3;
select count(*) from (select note, price from item order by price, note desc offset 1) s;
select count(*), max(n) from (select kind, count(distinct note) n from item group by kind) s;
select count(*) from (select a.id from item a join item b on a.kind = b.kind and a.id < b.id and b.id % 29 = 0) s;
select 'DONE';
