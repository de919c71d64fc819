package main

import (
	"context"
	"fmt"
)

// A stage is what stands behind the proxies. Those of one stage run side by side, idle but for the one that is measured.
type stage int

const (
	onePeer stage = iota
	fourPeers
	longPath // one peer, behind the delayer
	alone    // one peer, and every measurement has a fresh process: for memory
)

var stages = []stage{onePeer, fourPeers, longPath, alone}

// cell is one thing to measure.
type cell struct {
	id string
	// column is its heading in its group's tables.
	column string
	stage  stage
	// connections is how many the client has; zero means what the command line says.
	connections int
	run         func(ctx context.Context, m *measurement, clients pool) error
}

// group is the cells that share tables in the page.
type group struct {
	title, about string
	cells        []cell
	// figures are what is shown of each cell.
	figures []figure
}

// groups are all cells of a plan.
func groups(p plan) []group {
	sizes := []struct {
		name  string
		bytes int
	}{{"100 B", 100}, {"16 KiB", 16 << 10}}
	var all []group
	for _, size := range sizes {
		g := group{
			title: "Unary calls of " + size.name,
			about: "So many bytes there and back, so many calls open at a time (closed loop), one peer.",
			figures: []figure{
				cpuPerCall, callsPerSecond, latency, resident,
			},
		}
		for _, n := range []int{1, 8, 64, 512} {
			g.cells = append(g.cells, unaryCell(onePeer, n, size.bytes, fmt.Sprintf("%d at a time", n)))
		}
		all = append(all, g)
	}
	four := group{
		title: "Four peers",
		about: "64 unary calls at a time. Without a proxy the client itself goes round its four connections. A TCP proxy cannot take " +
			"part: it binds a connection, and so all calls on it, to one peer.",
		figures: []figure{cpuPerCall, callsPerSecond, latency},
	}
	for _, size := range sizes {
		four.cells = append(four.cells, unaryCell(fourPeers, 64, size.bytes, size.name))
	}
	return append(all, four,
		group{
			title:   "Streaming ping-pong",
			about:   "64 streams on which a message of 100 B goes there and back, again and again.",
			figures: []figure{cpuPerMessage, messagesPerSecond, latency},
			cells: []cell{{id: "pingpong-64", stage: onePeer, run: func(ctx context.Context, m *measurement, clients pool) error {
				return runClosed(ctx, m, 64, func(ctx context.Context, i int) (caller, error) {
					return openPingPong(ctx, clients[i%len(clients)], payload(100))
				})
			}}},
		},
		group{
			title:   fmt.Sprintf("One stream of %s", binary(p.bulk)),
			about:   "The peer sends it in messages of 64 KiB; the time is from the request to the end of the stream.",
			figures: []figure{throughput, cpuPerMiB, resident},
			cells: []cell{{id: "bulk", stage: onePeer, run: func(ctx context.Context, m *measurement, clients pool) error {
				return runBulk(ctx, m, clients, p.bulk)
			}}},
		},
		group{
			title: fmt.Sprintf("One stream over %s of round-trip time", inWords(p.roundTrip)),
			about: fmt.Sprintf("The path between proxy and peer holds every byte back for %s each way. The stream runs for %s before it is "+
				"measured, so that windows that grow have time to. It shows the window that a proxy grants its peer.",
				inWords(p.roundTrip/2), inWords(p.slowWarm)),
			figures: []figure{throughput, cpuPerMiB},
			cells:   []cell{{id: "long-path", stage: longPath, run: runLong}},
		},
		group{
			title: fmt.Sprintf("Latency at %d calls a second", p.rate),
			about: "Open loop: 100 B unary calls begin at fixed times, whether or not earlier ones have ended, and latency counts from " +
				"those times.",
			figures: []figure{latency, cpuPerCall},
			cells: []cell{{id: "open-loop", stage: onePeer, run: func(ctx context.Context, m *measurement, clients pool) error {
				next := 0
				return runOpen(ctx, m, p.rate, func() caller {
					next++
					return &unary{cc: clients[next%len(clients)], request: payload(100)}
				})
			}}},
		},
		group{
			title: fmt.Sprintf("%s idle streams", thousands(p.idle)),
			about: fmt.Sprintf("Over %d connections, in a process just started. Each stream has had one message there and back; memory is "+
				"read %s later, and then each must still answer.", idleConnections, inWords(p.settle)),
			figures: []figure{residentBefore, resident, perStream},
			cells: []cell{{id: "idle-streams", stage: alone, connections: idleConnections,
				run: func(ctx context.Context, m *measurement, clients pool) error { return runIdle(ctx, m, clients, p.idle) },
			}},
		},
	)
}

func unaryCell(at stage, n, bytes int, column string) cell {
	id := fmt.Sprintf("unary-%d-%s", n, map[int]string{100: "100B", 16 << 10: "16KiB"}[bytes])
	if at == fourPeers {
		id += "-4peers"
	}
	return cell{id: id, column: column, stage: at, run: func(ctx context.Context, m *measurement, clients pool) error {
		return runClosed(ctx, m, n, func(_ context.Context, i int) (caller, error) {
			return &unary{cc: clients[i%len(clients)], request: payload(bytes)}, nil
		})
	}}
}

// payload is a message of so many bytes that a compressor would not get small.
func payload(bytes int) *message {
	m := &message{Value: make([]byte, bytes)}
	x := uint32(1)
	for i := range m.Value {
		x = x*1664525 + 1013904223
		m.Value[i] = byte(x >> 24)
	}
	return m
}
