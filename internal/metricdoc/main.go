// Command metricdoc writes docs/metrics.md: every metric that fairlead's
// processes have, as the code registers it. Argument: the file.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "metricdoc FILE")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "metricdoc:", err)
		os.Exit(1)
	}
}

func write(path string) error {
	p, err := Page()
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(p), 0o644)
}
