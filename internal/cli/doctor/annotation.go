package doctor

import (
	"slices"
	"strings"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/cli/cluster"
)

// annotations are those of Services that nobody reads and that look like one that the
// controller reads.
func annotations(s *cluster.State) (out []Finding) {
	for _, svc := range s.Services {
		keys := make([]string, 0, len(svc.Annotations))
		for key := range svc.Annotations {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			if near := nearest(key); near != "" && near != key {
				out = append(out, find(Misspelt, service(svc.Ref), "write "+near, "Service %s has the annotation %s, which nobody reads. Is %s meant?", svc.Ref, key, near))
			}
		}
	}
	return out
}

// farthest is how many letters a misspelt annotation may differ in.
const farthest = 3

// nearest returns the annotation that key is, or is likely meant to be; "" if it is
// another one altogether.
func nearest(key string) string {
	known := allocator.Annotations()
	if slices.Contains(known, key) {
		return key
	}
	best, least := "", farthest+1
	for _, k := range known {
		if d := distance(strings.ToLower(key), strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	prefix, _, _ := strings.Cut(key, "/")
	if best == "" && prefix == "fairlead.io" {
		return strings.Join(allocator.OwnAnnotations(), ", ")
	}
	return best
}

// distance counts the letters to insert, delete or replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
