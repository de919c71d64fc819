package redis

import (
	_ "embed"
	"fmt"
	"strconv"

	goredis "github.com/redis/go-redis/v9"
)

var (
	//go:embed scripts/common.lua
	commonLua string
	//go:embed scripts/register.lua
	registerLua string
	//go:embed scripts/beat.lua
	beatLua string
	//go:embed scripts/deregister.lua
	deregisterLua string
	//go:embed scripts/snapshot.lua
	snapshotLua string
	//go:embed scripts/loads.lua
	loadsLua string

	registerScript   = goredis.NewScript(commonLua + registerLua)
	beatScript       = goredis.NewScript(commonLua + beatLua)
	deregisterScript = goredis.NewScript(commonLua + deregisterLua)
	snapshotScript   = goredis.NewScript(commonLua + snapshotLua)
	loadsScript      = goredis.NewScript(commonLua + loadsLua)
)

// answer takes a script's reply apart. The first thing that is not as expected stays in err, so that it is asked for once.
type answer struct {
	rest []any
	err  error
}

func (a *answer) next() any {
	if len(a.rest) == 0 {
		a.fail("too short")
		return nil
	}
	v := a.rest[0]
	a.rest = a.rest[1:]
	return v
}

func (a *answer) fail(what string) {
	if a.err == nil {
		a.err = fmt.Errorf("script reply: %s", what)
	}
}

func (a *answer) text() string {
	v, ok := a.next().(string)
	if !ok {
		a.fail("no string")
	}
	return v
}

// number reads an integer, which scripts send as a string where it may exceed what Lua makes of it.
func (a *answer) number() int64 {
	switch v := a.next().(type) {
	case int64:
		return v
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		if err == nil {
			return n
		}
	}
	a.fail("no number")
	return 0
}

func (a *answer) version() uint64 { return uint64(max(a.number(), 0)) }

func (a *answer) texts() []string {
	list, ok := a.next().([]any)
	if !ok {
		a.fail("no list")
		return nil
	}
	out := make([]string, len(list))
	for i, v := range list {
		if out[i], ok = v.(string); !ok {
			a.fail("no string in a list")
			return nil
		}
	}
	return out
}
