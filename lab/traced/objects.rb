# Objects for Ruby's mark-and-sweep collector: a graph of hashes and strings that is walked, and in part replaced.
count = 60_000
random = Random.new(1)
nodes = Array.new(count) { |i| { name: "node #{i} " + 'x' * (i % 200), links: [], seen: 0 } }
nodes.each { |node| 3.times { node[:links] << random.rand(count) } }
puts 'READY'
$stdout.flush
$stdin.gets
visited = 0
at = 0
200_000.times do |step|
  node = nodes[at]
  node[:seen] += 1
  visited += node[:name].size
  nodes[at] = { name: node[:name].reverse, links: node[:links], seen: node[:seen] } if (step % 5).zero?
  at = step % 50 == 49 ? random.rand(count) : node[:links][step % 3]
end
text = nodes.map { |node| node[:name] }.sort.join("\n")
puts "DONE #{visited} #{text.size}"
$stdout.flush
