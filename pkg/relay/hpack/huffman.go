package hpack

import "golang.org/x/net/http2/hpack"

// The Huffman code is that of RFC 7541 appendix B. Its 257 codes are not written down here a second time: they are had from the
// encoder of golang.org/x/net, once, when the package is loaded.

// node is one step of the decoder: what eight bits lead to from some state, up to two symbols and the next state. A code has five
// bits at least, so eight bits finish two at the most.
type node struct {
	next    uint16
	symbols [2]byte
	count   uint8
	// ends tells whether the string may end here: fewer than eight bits are left over, all ones (RFC 7541 §5.2).
	ends bool
	bad  bool
}

var decodeTable = buildDecodeTable()

// tree is the code as a binary tree: children of inner nodes, or the symbol of a leaf.
type tree struct {
	child  [2]int16 // 0: none
	symbol int16    // -1: inner
}

func buildDecodeTable() [][256]node {
	nodes := []tree{{symbol: -1}}
	for symbol := range 256 {
		bits := codeOf(byte(symbol))
		at := int16(0)
		for _, bit := range bits {
			if nodes[at].child[bit] == 0 {
				nodes[at].child[bit] = int16(len(nodes))
				nodes = append(nodes, tree{symbol: -1})
			}
			at = nodes[at].child[bit]
		}
		nodes[at].symbol = int16(symbol)
	}
	// States are the inner nodes. A state's depth and whether its path is all ones tell whether a string may end there.
	depth, ones := make([]int, len(nodes)), make([]bool, len(nodes))
	ones[0] = true
	states := map[int16]uint16{0: 0}
	order := []int16{0}
	for i := 0; i < len(order); i++ {
		at := order[i]
		for bit, c := range nodes[at].child {
			if c == 0 || nodes[c].symbol >= 0 {
				continue
			}
			depth[c], ones[c] = depth[at]+1, ones[at] && bit == 1
			states[c] = uint16(len(order))
			order = append(order, c)
		}
	}
	table := make([][256]node, len(order))
	for state, start := range order {
		for b := range 256 {
			n, at := node{}, start
			for i := 7; i >= 0 && !n.bad; i-- {
				at = nodes[at].child[b>>i&1]
				switch {
				case at == 0: // no symbol has this code: EOS, which must not be sent
					n.bad = true
				case nodes[at].symbol >= 0:
					n.symbols[n.count] = byte(nodes[at].symbol)
					n.count++
					at = 0
				}
			}
			n.next = states[at]
			n.ends = depth[at] < 8 && ones[at]
			table[state][b] = n
		}
	}
	return table
}

// codeOf gives the bits of a symbol's code. Eight times the symbol come to whole bytes, of which the first eighth is the code.
func codeOf(symbol byte) []byte {
	s := string([]byte{symbol, symbol, symbol, symbol, symbol, symbol, symbol, symbol})
	coded := hpack.AppendHuffmanString(nil, s)
	bits := make([]byte, len(coded)) // as many bits as eight of them have bytes
	for i := range bits {
		bits[i] = coded[i/8] >> (7 - i%8) & 1
	}
	return bits
}

// appendHuffmanDecoded appends what src stands for: at most 8/5 of its length.
func appendHuffmanDecoded(dst, src []byte) ([]byte, error) {
	state, ends := uint16(0), true
	for _, b := range src {
		n := &decodeTable[state][b]
		if n.bad {
			return dst, ErrHuffman
		}
		switch n.count {
		case 1:
			dst = append(dst, n.symbols[0])
		case 2:
			dst = append(dst, n.symbols[0], n.symbols[1])
		}
		state, ends = n.next, n.ends
	}
	if !ends {
		return dst, ErrHuffman
	}
	return dst, nil
}
