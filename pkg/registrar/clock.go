package registrar

import "time"

// jumpLeast is the smallest difference between the two clocks that counts as a jump. Slewing by NTP stays far below it.
const jumpLeast = time.Second

// clock notices that the Machine was suspended. The monotonic clock may stand still meanwhile, and with it every timer; the wall
// clock is set right after the resume, at once or some seconds later. So the two drift apart, which is what it looks for.
type clock struct {
	wall     func() time.Time
	lastWall time.Time
	lastMono time.Time
}

func newClock(wall func() time.Time) clock {
	if wall == nil {
		wall = time.Now
	}
	return clock{wall: wall, lastWall: wall().Round(0), lastMono: time.Now()}
}

// jumped gives by how much the wall clock moved more than the monotonic one since the last call, or 0 for less than jumpLeast.
// Small differences are dropped, not summed up.
func (c *clock) jumped() time.Duration {
	wall, mono := c.wall().Round(0), time.Now() // Round(0) strips the monotonic reading
	d := wall.Sub(c.lastWall) - mono.Sub(c.lastMono)
	c.lastWall, c.lastMono = wall, mono
	if d.Abs() < jumpLeast {
		return 0
	}
	return d
}
