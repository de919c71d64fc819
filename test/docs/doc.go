// Package docs has tests only: what the pages under docs/ show is what the project does.
package docs
