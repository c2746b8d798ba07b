package kernels

// Job is what a guest does. It is the file JobFile of its initramfs.
type Job struct {
	Before [][]string // commands that make the guest ready
	Runs   []Run
	Left   []Exception // what does not run
	Env    []string    // of the test programs, beside what the guest sets
}

// JobFile is where the guest finds its Job.
const JobFile = "job.json"

// Run is one test program in the guest.
type Run struct {
	Package string   // such as proxy/ebpf
	Program string   // its path in the guest
	Dir     string   // the working directory, with the package's testdata
	Args    []string // for package testing
}

// The guest's lines begin with these words. What a test program prints is between the
// first two.
const (
	begin = "@@begin " // PACKAGE
	end   = "@@end "   // PACKAGE RESULT: ok, or why not
	done  = "@@done "  // RELEASE of the kernel; the last line
)

// Begin is the line before the output of a package's test program.
func Begin(pkg string) string { return begin + pkg }

// End is the line after it. Result is "ok" or how the program failed.
func End(pkg, result string) string { return end + pkg + " " + result }

// Done is the guest's last line, with the release that its kernel says of itself.
func Done(release string) string { return done + release }
