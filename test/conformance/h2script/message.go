package h2script

import "encoding/binary"

// Request gives the header fields of a call in the usual order. A field of more takes the place of the usual one of its name; the
// rest follow.
func Request(path string, more ...Field) []Field {
	return replace(Fields(":method", "POST", ":scheme", "http", ":path", path, ":authority", "app.example", "content-type", "application/grpc",
		"te", "trailers"), more)
}

// Response gives the header fields that begin a response.
func Response(more ...Field) []Field {
	return replace(Fields(":status", "200", "content-type", "application/grpc"), more)
}

func replace(fields, more []Field) []Field {
	usual := len(fields)
	taken := make([]bool, usual)
next:
	for _, m := range more {
		for i := range usual {
			if fields[i].Name == m.Name && !taken[i] {
				fields[i], taken[i] = m, true
				continue next
			}
		}
		fields = append(fields, m)
	}
	return fields
}

// Message gives a gRPC message with its prefix. flag is 1 for a compressed one.
func Message(flag byte, body string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(body)))
	return append(b, body...)
}
