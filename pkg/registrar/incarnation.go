package registrar

import (
	"crypto/rand"
	"encoding/hex"
	"time"
)

// NewIncarnation names one start of this process, for [registry.Instance.Incarnation]: the UTC time and 64 random bits. The time
// is for people who read it. Its order carries no meaning, since the clocks of two Machines, or of one before and after a
// suspend, need not agree.
func NewIncarnation() string {
	var b [8]byte
	rand.Read(b[:]) // never fails (Go 1.24)
	return time.Now().UTC().Format("20060102T150405.000Z") + "-" + hex.EncodeToString(b[:])
}
