// A heap for Go's concurrent mark-and-sweep collector: trees that are searched, and replaced one by one by goroutines.
package main

import (
	"bufio"
	"fmt"
	"math/rand"
	"os"
	"sync"
)

type node struct {
	left, right *node
	key         int
	payload     [6]int64
}

func insert(at *node, key int) *node {
	if at == nil {
		return &node{key: key}
	}
	if key < at.key {
		at.left = insert(at.left, key)
	} else {
		at.right = insert(at.right, key)
	}
	return at
}

func find(at *node, key int) int64 {
	for at != nil && at.key != key {
		if key < at.key {
			at = at.left
		} else {
			at = at.right
		}
	}
	if at == nil {
		return 0
	}
	at.payload[0]++
	return at.payload[0]
}

func tree(seed int64) *node {
	random := rand.New(rand.NewSource(seed))
	var root *node
	for i := 0; i < 12_000; i++ {
		root = insert(root, random.Intn(1<<20))
	}
	return root
}

func main() {
	const trees, workers = 32, 2
	forest := make([]*node, trees)
	for i := range forest {
		forest[i] = tree(int64(i))
	}
	fmt.Println("READY")
	bufio.NewReader(os.Stdin).ReadString('\n')
	var wait sync.WaitGroup
	sums := make([]int64, workers)
	for worker := 0; worker < workers; worker++ {
		wait.Add(1)
		go func(worker int) {
			defer wait.Done()
			random := rand.New(rand.NewSource(int64(worker)))
			for round := 0; round < 40; round++ {
				at := worker + workers*random.Intn(trees/workers)
				for i := 0; i < 2_000; i++ {
					sums[worker] += find(forest[at], random.Intn(1<<20))
				}
				if round%4 == 0 {
					forest[at] = tree(random.Int63())
				}
			}
		}(worker)
	}
	wait.Wait()
	fmt.Println("DONE", sums[0]+sums[1])
}
