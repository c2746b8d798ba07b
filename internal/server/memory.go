package server

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
)

// memoryShare is how much of the container's limit Go may use, in percent. The kernel
// counts the nftables sets of the agent and the pages of the program against the same
// limit: 115 MiB with 50,000 Services. Go's heap grows until the share is used up, however
// little of it is live.
const memoryShare = 60

// LimitMemory has Go collect its garbage in time to stay below the container's memory
// limit, which the chart puts into the environment as MEMORY_LIMIT, in bytes. Without one
// it does nothing, and GOMEMLIMIT counts before it.
func LimitMemory() error {
	text := os.Getenv("MEMORY_LIMIT")
	if text == "" || os.Getenv("GOMEMLIMIT") != "" {
		return nil
	}
	limit, err := strconv.ParseInt(text, 10, 64)
	if err != nil || limit <= 0 {
		return fmt.Errorf("MEMORY_LIMIT: %q is not a number of bytes", text)
	}
	debug.SetMemoryLimit(limit / 100 * memoryShare)
	return nil
}
