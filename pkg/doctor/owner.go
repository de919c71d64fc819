package doctor

import (
	"fmt"
	"net/netip"
)

// listenerProcess is a listening TCP socket of this host. Pid is 0 where its process cannot be seen.
type listenerProcess struct {
	address netip.AddrPort
	pid     int
	command string
}

func (l *listenerProcess) program() string {
	if l.pid == 0 {
		return ""
	}
	return fmt.Sprintf("%s, process %d", l.command, l.pid)
}
