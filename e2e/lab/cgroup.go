package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const cgroupRoot = "/sys/fs/cgroup"

// hierarchies lists the cgroup mounts: one with cgroups v2 alone, one for each
// controller with v1 or both.
func hierarchies() ([]string, error) {
	if unified(cgroupRoot) {
		return []string{cgroupRoot}, nil
	}
	found, err := filepath.Glob(filepath.Join(cgroupRoot, "*", "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	var list []string
	for _, path := range found {
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return nil, err
		}
		if !slices.Contains(list, dir) {
			list = append(list, dir)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no cgroups at %s", cgroupRoot)
	}
	return list, nil
}

func unified(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "cgroup.controllers"))
	return err == nil
}

// unifiedRoot is where cgroups v2 are mounted, alone or beside v1.
func unifiedRoot() string {
	if unified(cgroupRoot) {
		return cgroupRoot
	}
	return filepath.Join(cgroupRoot, "unified")
}

// makeCgroups makes a node's cgroup in every hierarchy. Pods go below it, and
// the node's own programs into its child "system" where that is of use: the
// freezer, and v2 for programs attached to cgroups. It returns the latter.
func makeCgroups(name string) ([]string, error) {
	dirs, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var join []string
	for _, dir := range dirs {
		own := filepath.Join(dir, name)
		if err := makeCgroup(dir, own); err != nil {
			return nil, fmt.Errorf("make cgroup %s: %w", own, err)
		}
		if !unified(dir) && filepath.Base(dir) != "freezer" {
			continue
		}
		system := filepath.Join(own, "system")
		if err := os.MkdirAll(system, 0o755); err != nil {
			return nil, err
		}
		join = append(join, system)
	}
	return join, nil
}

// makeCgroup also gives the group what it must not lack: a v1 cpuset starts
// empty and then no process can enter; v2 controllers must be handed down.
func makeCgroup(parent, own string) error {
	if unified(parent) {
		return makeUnified(parent, own)
	}
	if err := os.MkdirAll(own, 0o755); err != nil {
		return err
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(parent, file))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(own, file), value, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// podControllers are what a kubelet limits pods by.
var podControllers = []string{"cpu", "cpuset", "hugetlb", "io", "memory", "pids"}

func makeUnified(parent, own string) error {
	if err := os.MkdirAll(own, 0o755); err != nil {
		return err
	}
	for _, dir := range []string{parent, own} {
		have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
		if err != nil {
			return err
		}
		for _, c := range strings.Fields(string(have)) {
			if !slices.Contains(podControllers, c) {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// freezer is the hierarchy whose groups can be frozen, the file that does it,
// and what to write to it.
func freezer() (dir, file, frozen, thawed string) {
	if unified(cgroupRoot) {
		return cgroupRoot, "cgroup.freeze", "1", "0"
	}
	return filepath.Join(cgroupRoot, "freezer"), "freezer.state", "FROZEN", "THAWED"
}

// freeze stops every process of the group where it stands, those of groups
// below it included.
func freeze(name string) error {
	dir, file, frozen, _ := freezer()
	return os.WriteFile(filepath.Join(dir, name, file), []byte(frozen), 0o644)
}

// thaw ends freeze for the groups with this name, which may be a pattern.
func thaw(pattern string) error {
	dir, file, _, thawed := freezer()
	found, err := filepath.Glob(filepath.Join(dir, pattern, file))
	errs := []error{err}
	for _, path := range found {
		errs = append(errs, os.WriteFile(path, []byte(thawed), 0o644))
	}
	return errors.Join(errs...)
}

// removeCgroups removes the cgroups with this name, which may be a pattern, in
// every hierarchy, deepest first. The kernel lets go of a dead process's group
// a moment later.
func removeCgroups(ctx context.Context, pattern string) error {
	dirs, err := hierarchies()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, own := range found {
			err := Until(ctx, 30*time.Second, "removal of cgroup "+own, func(context.Context) error { return removeTree(own) })
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func removeTree(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, dir := range slices.Backward(dirs) {
		if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("rmdir %s: %w", dir, err)
		}
	}
	return nil
}
