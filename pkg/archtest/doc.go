// Package archtest has tests only: which package may import which, what code may not call, and other rules that a machine can
// check better than a reviewer.
package archtest
