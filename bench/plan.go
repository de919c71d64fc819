package main

import "time"

// plan says how long and how large everything is. Each value bounds something: a run of any plan ends by itself.
type plan struct {
	// name is full, reduced or short.
	name string
	// rounds is how often each cell is measured with each subject; figures are the medians.
	rounds int
	// warm is not counted; then measure is.
	warm, measure time.Duration
	// slowWarm and slowMeasure are the same for the stream over a long path, whose window takes round trips to grow.
	slowWarm, slowMeasure time.Duration
	// roundTrip is what the long path adds.
	roundTrip time.Duration
	// bulk is how many bytes the large stream brings.
	bulk int64
	// rate is the open loop's calls a second.
	rate int
	// idle is how many idle streams are opened, and settle how long they are left alone before memory is read.
	idle   int
	settle time.Duration
	// limit ends a measurement that hangs.
	limit time.Duration
	// subjects and cells are the ids to measure; none means all.
	subjects, cells []string
}

// full is what published figures come from: about 40 minutes.
func full() plan {
	return plan{
		name: "full", rounds: 5, warm: 500 * time.Millisecond, measure: 2 * time.Second,
		slowWarm: 3 * time.Second, slowMeasure: 5 * time.Second, roundTrip: 150 * time.Millisecond,
		bulk: 1 << 30, rate: 2000, idle: 10_000, settle: 3 * time.Second, limit: 90 * time.Second,
	}
}

// reduced is for a look while working: about 6 minutes, and figures that wobble.
func reduced() plan {
	return plan{
		name: "reduced", rounds: 3, warm: 200 * time.Millisecond, measure: 500 * time.Millisecond,
		slowWarm: 1500 * time.Millisecond, slowMeasure: 1500 * time.Millisecond, roundTrip: 150 * time.Millisecond,
		bulk: 256 << 20, rate: 2000, idle: 2000, settle: time.Second, limit: 15 * time.Second,
	}
}

// short only shows that no cell is broken: a few seconds, figures without meaning.
func short() plan {
	return plan{
		name: "short", rounds: 1, warm: 10 * time.Millisecond, measure: 60 * time.Millisecond,
		slowWarm: 100 * time.Millisecond, slowMeasure: 150 * time.Millisecond, roundTrip: 20 * time.Millisecond,
		bulk: 8 << 20, rate: 200, idle: 100, settle: 20 * time.Millisecond, limit: 20 * time.Second,
		subjects: []string{direct, "flyproxy-grpc", "flyproxy-relay", "haproxy-tcp", "haproxy"},
	}
}

// planNamed gives the plan of a name; an unknown name's is the full one.
func planNamed(name string) plan {
	for _, p := range []plan{short(), reduced()} {
		if p.name == name {
			return p
		}
	}
	return full()
}
