package ebpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroupDepth is how deep below the root kubelets put their pods.
const cgroupDepth = 3

// FindCgroup returns the cgroup that holds all pods of this node, below root:
// where cgroup v2 is mounted, or v1 with v2 in its folder "unified". The root of
// all cgroups is never taken, so that the machine's own programs stay as they are.
func FindCgroup(root string) (string, error) {
	v2 := ""
	for _, dir := range []string{root, filepath.Join(root, "unified")} {
		if isCgroup2(dir) {
			v2 = dir
			break
		}
	}
	if v2 == "" {
		return "", fmt.Errorf("no cgroup v2 at %s", root)
	}
	found, err := podCgroups(v2)
	switch {
	case err != nil:
		return "", err
	case len(found) == 0:
		return "", fmt.Errorf("no cgroup of pods below %s: give --cgroup", v2)
	case len(found) > 1:
		return "", fmt.Errorf("cgroups of several kubelets below %s (%s): give --cgroup", v2, strings.Join(found, ", "))
	}
	return found[0], nil
}

// podCgroups returns the folders below dir that a kubelet made for its pods.
func podCgroups(dir string) (found []string, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch rel, _ := filepath.Rel(dir, path); {
		case errors.Is(err, fs.ErrNotExist):
			return nil // it went meanwhile
		case err != nil:
			return err
		case !e.IsDir() || path == dir:
			return nil
		case isPods(e.Name()):
			found = append(found, path)
			return filepath.SkipDir
		case strings.Count(rel, "/")+1 >= cgroupDepth:
			return filepath.SkipDir
		}
		return nil
	})
	return found, err
}

// isPods knows a kubelet's cgroup: "kubepods" with the driver cgroupfs,
// "kubepods.slice" or "kubelet-kubepods.slice" with systemd.
func isPods(name string) bool {
	return name == "kubepods" || name == "kubepods.slice" || strings.HasSuffix(name, "-kubepods.slice")
}

func isCgroup2(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// openCgroup opens a cgroup, and returns its id and how deep it is.
func openCgroup(dir string) (f *os.File, id uint64, level uint32, err error) {
	if !isCgroup2(dir) {
		return nil, 0, 0, fmt.Errorf("%s is no cgroup v2", dir)
	}
	if f, err = os.Open(dir); err != nil {
		return nil, 0, 0, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, 0, 0, err
	}
	for up := filepath.Dir(filepath.Clean(dir)); isCgroup2(up); up = filepath.Dir(up) {
		level++
	}
	return f, st.Ino, level, nil
}
