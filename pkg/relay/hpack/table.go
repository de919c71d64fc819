package hpack

// table is a dynamic table (RFC 7541 §2.3.2): a ring of entries, the newest first when indexed from 1.
type table struct {
	ring  []Field // its length is a power of two
	first int     // the ring's place of the newest entry
	count int
	size  int
	limit int
	// added counts all entries ever added: the newest entry's number. An entry's number never changes while its index does.
	added uint64
	// evicted, where it is set, is told of every entry that leaves, with its number.
	evicted func(f *Field, number uint64)
}

// at gives the entry with the given index, counted from 1 for the newest; nil when there is none.
func (t *table) at(i int) *Field {
	if i < 1 || i > t.count {
		return nil
	}
	return &t.ring[(t.first+i-1)&(len(t.ring)-1)]
}

// add puts a field first. One that is larger than the whole table empties it (RFC 7541 §4.4). It tells whether the field went in.
func (t *table) add(f Field) bool {
	size := f.Size()
	if size > t.limit {
		t.evict(0)
		return false
	}
	t.evict(t.limit - size)
	if t.count == len(t.ring) {
		t.grow()
	}
	t.first = (t.first - 1) & (len(t.ring) - 1)
	t.ring[t.first] = f
	t.count++
	t.size += size
	t.added++
	return true
}

// resize changes the limit.
func (t *table) resize(limit int) {
	t.limit = limit
	t.evict(limit)
}

// evict drops the oldest entries until the size is at most that.
func (t *table) evict(size int) {
	for t.size > size {
		last := t.at(t.count)
		t.size -= last.Size()
		if t.evicted != nil {
			t.evicted(last, t.added-uint64(t.count)+1)
		}
		*last = Field{} // frees the strings
		t.count--
	}
}

func (t *table) grow() {
	ring := make([]Field, max(2*len(t.ring), 16))
	for i := range t.count {
		ring[i] = *t.at(i + 1)
	}
	t.ring, t.first = ring, 0
}

// static is the static table (RFC 7541 appendix A); place 0 is not used.
var static = [...]Field{
	{}, {Name: ":authority"}, {Name: ":method", Value: "GET"}, {Name: ":method", Value: "POST"}, {Name: ":path", Value: "/"},
	{Name: ":path", Value: "/index.html"}, {Name: ":scheme", Value: "http"}, {Name: ":scheme", Value: "https"},
	{Name: ":status", Value: "200"}, {Name: ":status", Value: "204"}, {Name: ":status", Value: "206"}, {Name: ":status", Value: "304"},
	{Name: ":status", Value: "400"}, {Name: ":status", Value: "404"}, {Name: ":status", Value: "500"}, {Name: "accept-charset"},
	{Name: "accept-encoding", Value: "gzip, deflate"}, {Name: "accept-language"}, {Name: "accept-ranges"}, {Name: "accept"},
	{Name: "access-control-allow-origin"}, {Name: "age"}, {Name: "allow"}, {Name: "authorization"}, {Name: "cache-control"},
	{Name: "content-disposition"}, {Name: "content-encoding"}, {Name: "content-language"}, {Name: "content-length"},
	{Name: "content-location"}, {Name: "content-range"}, {Name: "content-type"}, {Name: "cookie"}, {Name: "date"}, {Name: "etag"},
	{Name: "expect"}, {Name: "expires"}, {Name: "from"}, {Name: "host"}, {Name: "if-match"}, {Name: "if-modified-since"},
	{Name: "if-none-match"}, {Name: "if-range"}, {Name: "if-unmodified-since"}, {Name: "last-modified"}, {Name: "link"},
	{Name: "location"}, {Name: "max-forwards"}, {Name: "proxy-authenticate"}, {Name: "proxy-authorization"}, {Name: "range"},
	{Name: "referer"}, {Name: "refresh"}, {Name: "retry-after"}, {Name: "server"}, {Name: "set-cookie"},
	{Name: "strict-transport-security"}, {Name: "transfer-encoding"}, {Name: "user-agent"}, {Name: "vary"}, {Name: "via"},
	{Name: "www-authenticate"},
}
