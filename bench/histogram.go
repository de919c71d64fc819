package main

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets of at most 1/128 of their value, from 1 ns to 68 s; longer ones count as 68 s. It has one
// writer; add merges the histograms of several once they are done.
type histogram struct {
	counts [(longest-8)<<7 + 256]uint32
	total  int64
}

// longest is how many bits of nanoseconds are told apart.
const longest = 36

func (h *histogram) record(d time.Duration) {
	h.counts[bucketOf(min(uint64(max(d, 0)), 1<<longest-1))]++
	h.total++
}

// bucketOf keeps the eight leading bits of v. Below 256 every value has a bucket of its own.
func bucketOf(v uint64) int {
	shift := max(0, bits.Len64(v)-8)
	return shift<<7 + int(v>>shift)
}

// bucketTop is the largest value in a bucket.
func bucketTop(i int) uint64 {
	shift := max(0, i>>7-1)
	return uint64(i-shift<<7+1)<<shift - 1
}

func (h *histogram) add(o *histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.total += o.total
}

// quantile gives the smallest bucket's top that at least q of the values do not exceed; zero when there are none.
func (h *histogram) quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	left := max(int64(q*float64(h.total)+0.5), 1)
	for i, n := range h.counts {
		if left -= int64(n); left <= 0 {
			return time.Duration(bucketTop(i))
		}
	}
	return 1 << longest
}
