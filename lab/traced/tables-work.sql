-- A join with a group, and a sort.
select city, count(*), sum(amount) from sale join customer on customer.id = sale.customer group by city order by 3 desc limit 3;
select count(*) from (select note from sale order by amount, note desc limit 200000);
.print DONE
