package conformance_test

import "slices"

// The sections of the table.
const (
	payload = "Payload and metadata"
	timing  = "Timing"
	ends    = "Ends and errors"
	http2s  = "HTTP/2"
	abuse   = "Abuse"
)

// testCase is one checkable requirement. Run returns when it holds.
type testCase struct {
	// Name is unique.
	Name string
	// Line is the requirement in words.
	Line string
	// Proxied cases make no sense without a proxy.
	Proxied bool
	Run     func(e *env)
}

type section struct {
	Title string
	Cases []testCase
}

// sections are all cases. Those of Abuse run alone, because they look at memory, and never without a proxy.
var sections = []section{
	{payload, slices.Concat(payloadCases, metadataCases, headerCases, statusCases)},
	{timing, timingCases},
	{ends, slices.Concat(endCases, retryCases)},
	{http2s, slices.Concat(settingsCases, hpackCases, frameCases, stallCases, faultCases)},
	{abuse, slices.Concat(floodCases, malformedCases, windowCases, portCases)},
}
