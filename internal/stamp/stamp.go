// Package stamp prints which build a program is.
package stamp

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Line returns one line of text about a build: program, version, system, Go
// version and commit. If commit is "", Line takes the one that the Go command
// recorded in the program, or "unknown" if there is none.
func Line(program, version, commit string) string {
	if commit == "" {
		commit = recorded()
	}
	return fmt.Sprintf("%s %s %s/%s %s %s", program, version, runtime.GOOS, runtime.GOARCH, runtime.Version(), commit)
}

func recorded() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}
