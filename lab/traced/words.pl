# Words counted in a hash, an index from each to its lines, and both in order.
use strict;
use warnings;
$| = 1;
srand(1);
my @lines = map { join ' ', map { 'word' . int(40000 * rand() ** 3) } 1 .. 12 } 1 .. 60000;
print "READY\n";
scalar <STDIN>;
my (%count, %index);
for my $i (0 .. $#lines) {
    for my $word (split ' ', $lines[$i]) {
        $count{$word}++;
        push @{ $index{$word} }, $i if $count{$word} < 40;
    }
}
my @order = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
my $sum = 0;
for my $word (@order) { $sum += length $lines[$_] for @{ $index{$word} }; }
print "DONE $sum\n";
