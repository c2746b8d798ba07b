package controller_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead/fairlead/e2e/lab"
)

// pages are the documents whose commands and YAML are checked.
func pages(t *testing.T, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && (strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "testdata") {
				return fs.SkipDir
			}
			return err
		}
		if strings.HasSuffix(path, ".md") {
			data, err := os.ReadFile(path)
			name, _ := filepath.Rel(root, path)
			out[name] = string(data)
			return err
		}
		return nil
	})
	if err != nil || len(out) < 10 {
		t.Fatalf("%d pages: %v", len(out), err)
	}
	return out
}

var (
	fence  = regexp.MustCompile("(?ms)^( *)(?:\\d+\\. +)?```(\\w*)\n(.*?)^ *```$")
	inline = regexp.MustCompile("`([^`\n]+(?:\n[^`\n]+)?)`")
	plain  = regexp.MustCompile(`(?m)^    (\S.*)$`)
)

// blocks returns the fenced blocks of a language, without their indentation.
func blocks(page, language string) (out []string) {
	for _, m := range fence.FindAllStringSubmatch(page, -1) {
		if m[2] != language {
			continue
		}
		indent := m[3][:len(m[3])-len(strings.TrimLeft(m[3], " "))]
		out = append(out, regexp.MustCompile("(?m)^"+indent).ReplaceAllString(m[3], ""))
	}
	return out
}

// TestDocsYAML: every YAML block is an object that the API server takes, with
// strict validation, or values that the chart takes. It does not know the kinds
// of others, which are counted.
func TestDocsYAML(t *testing.T) {
	c := newCluster(t)
	root, err := lab.Checkout()
	c.must(err)
	c.releaseNamespace()
	objects, values, foreign := 0, 0, 0
	kind := regexp.MustCompile(`(?m)^kind: \w`)
	others := regexp.MustCompile(`(?m)^apiVersion: (metallb\.io|monitoring\.coreos\.com|kubeadm\.k8s\.io|kubeproxy\.config\.k8s\.io)/`)
	for name, text := range pages(t, root) {
		for _, block := range blocks(text, "yaml") {
			file := filepath.Join(t.TempDir(), "block.yaml")
			c.must(os.WriteFile(file, []byte(block), 0o600))
			var err error
			switch {
			case others.MatchString(block):
				foreign++
			case kind.MatchString(block):
				objects++
				_, err = server.Kubectl(t.Context(), "apply", "--dry-run=server", "--validate=strict", "-f", file)
			default:
				values++
				_, err = server.Helm(t.Context(), "template", "fairlead", filepath.Join(root, "charts", "fairlead"), "--namespace", release, "--values", file)
			}
			if err != nil {
				t.Errorf("%s: %v in\n%s", name, err, block)
			}
		}
	}
	if objects < 10 || values < 10 {
		t.Error("few YAML blocks are found: do the pages have another form?")
	}
	t.Logf("%d blocks of objects and %d of values are taken, %d are of others' kinds", objects, values, foreign)
}

// known are the programs that are not ours, whose commands are not looked at.
var known = []string{"awk", "base64", "cat", "cd", "chmod", "conntrack", "ctr", "echo", "env", "export", "firewall-cmd", "grep", "head", "install", "ip", "ip6tables", "iptables", "kubeadm", "kube-proxy", "nft", "sort", "sysctl", "tail", "tar", "terraform", "uniq", "vagrant"}

// TestDocsCommands: every command of a page is one that its program knows, with
// flags that it knows: fairlead as it is shipped, helm, kubectl, make, the lab.
// Values behind --set are values of the chart.
func TestDocsCommands(t *testing.T) {
	c := newCluster(t)
	root, err := lab.Checkout()
	c.must(err)
	path, err := binary()
	c.must(err)
	check := &checker{root: root, binary: path}
	where := map[string]string{} // a page that has the command
	for name, text := range pages(t, root) {
		for _, line := range commands(text) {
			for _, words := range split(line) {
				where[strings.Join(words, "\x00")] = name
			}
		}
	}
	if len(where) < 100 {
		t.Errorf("%d commands: do the pages have another form?", len(where))
	}
	var g errgroup.Group
	g.SetLimit(4)
	for id, name := range where {
		g.Go(func() error {
			words := strings.Split(id, "\x00")
			if err := check.command(t.Context(), words); err != nil {
				t.Errorf("%s: %s: %v", name, strings.Join(words, " "), err)
			}
			return nil
		})
	}
	_ = g.Wait()
	t.Logf("%d different commands are known with their flags", len(where))
}

// commands returns the lines of a page that a shell is to be given: those of sh
// blocks, and in the text those that begin with a program of ours.
func commands(page string) (out []string) {
	for _, block := range blocks(page, "sh") {
		block = strings.ReplaceAll(block, "\\\n", " ")
		out = append(out, strings.Split(regexp.MustCompile(`\|\s*\n`).ReplaceAllString(block, "| "), "\n")...)
	}
	rest := fence.ReplaceAllString(page, "")
	ours := regexp.MustCompile(`^(fairlead|kubectl|helm|make|go run) `)
	for _, m := range plain.FindAllStringSubmatch(rest, -1) {
		if ours.MatchString(m[1]) {
			out = append(out, m[1])
		}
	}
	for _, m := range inline.FindAllStringSubmatch(rest, -1) {
		if text := strings.Join(strings.Fields(m[1]), " "); ours.MatchString(text) && !strings.Contains(text, "…") {
			out = append(out, text)
		}
	}
	return out
}

type checker struct{ root, binary string }

// command checks one command.
func (k *checker) command(ctx context.Context, words []string) error {
	for len(words) > 1 && regexp.MustCompile(`^[A-Z_0-9]+=`).MatchString(words[0]) {
		words = words[1:] // environment
	}
	switch program, args := words[0], words[1:]; {
	case program == "kubectl" && len(args) > 0 && args[0] == "fairlead":
		return run(ctx, k.root, k.binary, help(args[1:])...)
	case program == "fairlead":
		return run(ctx, k.root, k.binary, help(args)...)
	case program == "kubectl":
		_, err := server.Kubectl(ctx, help(args)...)
		return err
	case program == "helm":
		return k.helm(ctx, args)
	case program == "make":
		return k.target(ctx, args)
	case program == "go" && len(args) > 1 && args[0] == "run":
		return exists(k.root, args[1])
	case program == "go" && len(args) > 1 && args[0] == "test":
		return exists(k.root, args[slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "./") })])
	case slices.Contains(known, program):
		return nil
	}
	return fmt.Errorf("what is %q? name it in known, if it is right", words[0])
}

// help asks for help with the flags that are given: a program refuses those that
// it does not know first.
func help(args []string) []string {
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[:i]
	}
	return append(slices.Clone(args), "--help")
}

// helm checks the flags, and what is set.
func (k *checker) helm(ctx context.Context, args []string) error {
	if _, err := server.Helm(ctx, help(args)...); err != nil {
		return err
	}
	render := []string{"template", "fairlead", filepath.Join(k.root, "charts", "fairlead")}
	for i, a := range args {
		if a == "--set" && i+1 < len(args) {
			render = append(render, "--set", args[i+1])
		}
	}
	_, err := server.Helm(ctx, render...)
	return err
}

// target checks that the Makefile has the verb, and that what the verb is told is one
// of its choices.
func (k *checker) target(ctx context.Context, args []string) error {
	data, err := os.ReadFile(filepath.Join(k.root, "Makefile"))
	if err != nil {
		return err
	}
	verb := ""
	for _, a := range args {
		if what, ok := strings.CutPrefix(a, "WHAT="); ok {
			// A choice of the Makefile's own is a case of the verb's shell.
			if verb == "e2e-kind" && strings.Contains(string(data), " "+what+") set -- ") {
				continue
			}
			if err := k.what(ctx, verb, what); err != nil {
				return err
			}
			continue
		}
		if strings.Contains(a, "=") || a == "..." {
			continue
		}
		if verb = a; !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(a) + `:`).Match(data) {
			return fmt.Errorf("the Makefile has no target %s", a)
		}
	}
	return nil
}

// what checks a choice of "make bench", "make test", "make e2e", "make e2e-kind" or "make
// generate".
func (k *checker) what(ctx context.Context, verb, what string) error {
	if verb == "e2e" || verb == "e2e-kind" {
		if what == "attacks" { // not one of stories alone
			_, err := os.Stat(filepath.Join(k.root, "internal", "tools", "attacks.sh"))
			return err
		}
		return run(ctx, k.root, filepath.Join(k.root, "internal", "tools", "stories.sh"), what)
	}
	script, err := os.ReadFile(filepath.Join(k.root, "internal", "tools", verb+".sh"))
	if err != nil {
		return err
	}
	if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(what) + `\)(?: |$)`).Match(script) {
		return fmt.Errorf("make %s has no WHAT=%s", verb, what)
	}
	return nil
}

func exists(root, dir string) error {
	_, err := os.Stat(filepath.Join(root, strings.TrimSuffix(dir, "/...")))
	return err
}

func run(ctx context.Context, dir, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "KUBECONFIG="+os.DevNull)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// split splits a line of shell into commands and these into words, as far as the
// docs need it: quotes, pipes, lists, comments; redirections are left out.
func split(line string) (out [][]string) {
	var words []string
	var word strings.Builder
	begun, quote := false, rune(0)
	endWord := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	endCommand := func() {
		endWord()
		if i := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, ">") || strings.HasPrefix(w, "2>") }); i >= 0 {
			words = words[:i]
		}
		if len(words) > 0 {
			out = append(out, words)
		}
		words = nil
	}
	for _, r := range strings.TrimSpace(line) {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '\'' || r == '"':
			quote, begun = r, true
		case r == '#' && !begun:
			endCommand()
			return out
		case r == '|' || r == ';' || r == '&':
			endCommand()
		case r == ' ' || r == '\t':
			endWord()
		default:
			begun = true
			word.WriteRune(r)
		}
	}
	endCommand()
	return out
}
