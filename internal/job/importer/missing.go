package importer

import (
	"fmt"
	"maps"
	"slices"
)

// missing lists the fields of all that known does not have, with their values,
// sorted by path. Lists are not looked into.
func missing(path string, all, known any) []string {
	have, _ := known.(map[string]any)
	from, _ := all.(map[string]any)
	var out []string
	for _, key := range slices.Sorted(maps.Keys(from)) {
		value, sub := from[key], have[key]
		_, nested := value.(map[string]any)
		_, there := have[key]
		switch {
		case !there && !empty(value):
			out = append(out, fmt.Sprintf("%s%s: %v", path, key, value))
		case there && nested && sub != nil:
			out = append(out, missing(path+key+".", value, sub)...)
		}
	}
	return out
}

// empty reports whether a value says what its absence says.
func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case float64:
		return v == 0
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}
