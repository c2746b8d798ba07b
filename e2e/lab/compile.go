package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// compilation is a build of commands that may take minutes: it says first how long,
// and then what is left.
type compilation struct {
	dir      string // of the module
	tags     string
	commands []string
}

// run is go build with more arguments.
func (c compilation) run(ctx context.Context, step *Step, args ...string) error {
	step.Waiting("go list: which packages are missing")
	work, err := c.survey(ctx, step)
	if err != nil {
		return err
	}
	e := newEstimate(work, runtime.NumCPU())
	if e.packages > 0 {
		step.p.Say("%s", e)
	}
	begin := time.Now()
	args = append([]string{"build", "-v", "-trimpath", "-tags", c.tags}, args...)
	return goRun(ctx, step, c.dir, append(args, c.commands...), io.Discard, func(line string) {
		e.begin(line)
		step.Waiting("%s", e.after(time.Since(begin)))
	})
}

// survey finds the packages that the build cache lacks, with the bytes of their
// source. The go command downloads their modules for that.
func (c compilation) survey(ctx context.Context, step *Step) (map[string]int64, error) {
	var out strings.Builder
	const format = `{{if .Stale}}{{.ImportPath}}{{$dir := .Dir}}{{range .GoFiles}}|{{$dir}}/{{.}}{{end}}{{end}}`
	args := append([]string{"list", "-deps", "-trimpath", "-tags", c.tags, "-f", format}, c.commands...)
	if err := goRun(ctx, step, c.dir, args, &out, func(line string) { step.Waiting("%s", line) }); err != nil {
		return nil, err
	}
	work := map[string]int64{}
	for line := range strings.Lines(out.String()) {
		fields := strings.Split(strings.TrimSpace(line), "|")
		for _, file := range fields[1:] {
			info, err := os.Stat(file)
			if err != nil {
				return nil, err
			}
			work[fields[0]] += info.Size()
		}
	}
	return work, nil
}

// goBuild runs the go command in dir, outside of any workspace, and tells step
// the packages as they are compiled.
func goBuild(ctx context.Context, step *Step, dir string, args []string) error {
	count := 0
	return goRun(ctx, step, dir, args, io.Discard, func(line string) {
		count++
		step.Waiting("%d packages so far, now %s", count, line)
	})
}

// goRun runs the go command in dir, outside of any workspace. It writes standard
// output to out, calls heard for each line of standard error, and adds the CPU time
// of the command to the step.
func goRun(ctx context.Context, step *Step, dir string, args []string, out io.Writer, heard func(line string)) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stdout = dir, out
	// Root may not be trusted to ask git about another user's checkout. With the usual
	// GOGC of 100 the compiler collects garbage for a fifth of its time in large packages.
	cmd.Env = append([]string{"GOGC=400"}, os.Environ()...)
	cmd.Env = append(cmd.Env, "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS="+os.Getenv("GOFLAGS")+" -buildvcs=false")
	pipe, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("go %s: %w", args[0], err)
	}
	said := follow(pipe, heard)
	err = cmd.Wait()
	step.Used(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime())
	if err != nil {
		return errors.Join(ctx.Err(), fmt.Errorf("go %s in %s: %w:\n%s", strings.Join(args, " "), dir, err, lastLines(said, 20)))
	}
	return nil
}

// follow reads r to its end, calls heard for each line, and returns all of it.
func follow(r io.Reader, heard func(line string)) string {
	var said strings.Builder
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fmt.Fprintln(&said, lines.Text())
		heard(lines.Text())
	}
	return said.String()
}
