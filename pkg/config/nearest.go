package config

import "strings"

// nearest finds the word that is most like s, if one is near enough that a typing error explains the difference.
func nearest(s string, words []string) (string, bool) {
	best, at := 0, -1
	for i, w := range words {
		d := distance(s, w)
		if d <= max(len(s), len(w))/3+1 && d < max(len(s), len(w)) && (at < 0 || d < best) {
			best, at = d, i
		}
	}
	if at < 0 {
		return "", false
	}
	return words[at], true
}

// distance is the number of letters to insert, remove, replace or swap with their neighbour that turn a into b (optimal
// string alignment).
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

// suggestKey says what an unknown key may have meant: one of its neighbours, or a key of that name elsewhere.
func suggestKey(root, parent *field, name string) string {
	name = strings.ToLower(name)
	var neighbours []string
	for _, c := range parent.fields {
		neighbours = append(neighbours, c.name)
	}
	near, ok := nearest(name, neighbours)
	if ok && distance(name, near) <= 1 {
		return `did you mean "` + near + `"?`
	}
	closest, least := "", 2
	for _, f := range root.every() {
		if f.path == name && parent == root {
			above := strings.Join(strings.Split(f.path, ".")[:strings.Count(f.path, ".")], ": ")
			return "write " + f.name + ": on a line of its own below " + above + ":"
		}
		if d := distance(name, f.name); d < least && d < len(f.name)/2 {
			closest, least = f.path, d
		}
	}
	switch {
	case closest != "" && (least == 0 || !ok):
		return `did you mean "` + closest + `"?`
	case ok:
		return `did you mean "` + near + `"?`
	}
	return "known here: " + strings.Join(neighbours, ", ")
}
