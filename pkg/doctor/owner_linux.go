package doctor

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// listening lists the TCP sockets of this network namespace that listen on port, with the processes that hold them, as far as we may
// see those (proc(5), /proc/net/tcp).
func listening(port int) []listenerProcess {
	byInode := make(map[string]netip.AddrPort)
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			continue // no IPv6, or no /proc
		}
		for line := range strings.Lines(string(text)) {
			const listen = "0A" // TCP_LISTEN
			if cols := strings.Fields(line); len(cols) > 9 && cols[3] == listen {
				if at, ok := parseSocket(cols[1]); ok && int(at.Port()) == port {
					byInode["socket:["+cols[9]+"]"] = at
				}
			}
		}
	}
	if len(byInode) == 0 {
		return nil
	}
	var all []listenerProcess
	seen := make(map[string]bool)
	files, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, file := range files {
		inode, err := os.Readlink(file)
		at, ours := byInode[inode]
		if err != nil || !ours || seen[inode] {
			continue
		}
		seen[inode] = true
		folder := filepath.Dir(filepath.Dir(file))
		pid, _ := strconv.Atoi(filepath.Base(folder))
		name, _ := os.ReadFile(filepath.Join(folder, "comm"))
		all = append(all, listenerProcess{at, pid, strings.TrimSpace(string(name))})
	}
	for inode, at := range byInode {
		if !seen[inode] {
			all = append(all, listenerProcess{address: at})
		}
	}
	slices.SortFunc(all, func(a, b listenerProcess) int { return a.address.Compare(b.address) })
	return all
}

// parseSocket reads an address of /proc/net/tcp: the bytes of each 32 bit word in the order of this machine, a colon, the port.
func parseSocket(s string) (netip.AddrPort, bool) {
	host, port, ok := strings.Cut(s, ":")
	n, err := strconv.ParseUint(port, 16, 16)
	raw, hexErr := hex.DecodeString(host)
	if !ok || err != nil || hexErr != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	ip, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(ip, uint16(n)), ok
}
