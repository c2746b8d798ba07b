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

// DefaultCgroup is where cgroups are mounted.
const DefaultCgroup = "/sys/fs/cgroup"

// podCgroup returns the cgroup that holds all pods of this node: the one that a
// kubelet made at or below dir. Without one it is dir, if that was given and is
// not the root of all cgroups: the machine's own programs stay as they are.
func podCgroup(dir string) (string, error) {
	v2 := ""
	for _, d := range []string{dir, filepath.Join(dir, "unified")} { // "unified" is where v2 is beside v1
		if v2 == "" && isCgroup2(d) {
			v2 = d
		}
	}
	if v2 == "" {
		return "", fmt.Errorf("no cgroup v2 at %s", dir)
	}
	found, err := podCgroups(v2)
	switch {
	case err != nil:
		return "", err
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return "", fmt.Errorf("cgroups of several kubelets below %s (%s): give --cgroup", v2, strings.Join(found, ", "))
	case dir == DefaultCgroup || isRoot(v2):
		return "", fmt.Errorf("no cgroup of pods below %s: give --cgroup", v2)
	}
	return v2, nil
}

// isRoot reports whether dir is the root of all cgroups, which has no type.
func isRoot(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "cgroup.type"))
	return errors.Is(err, fs.ErrNotExist)
}

// podCgroups returns the folders below dir that a kubelet made for its pods.
func podCgroups(dir string) (found []string, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch rel, _ := filepath.Rel(dir, path); {
		case errors.Is(err, fs.ErrNotExist):
			return nil // it went meanwhile
		case err != nil:
			return err
		case !e.IsDir():
			return nil
		case isPods(e.Name()):
			found = append(found, path)
			return filepath.SkipDir
		case rel != "." && strings.Count(rel, "/")+1 >= cgroupDepth:
			return filepath.SkipDir
		}
		return nil
	})
	return found, err
}

// isPods reports whether name is that of a kubelet's cgroup of pods: "kubepods" with the driver
// cgroupfs, "kubepods.slice" or "kubelet-kubepods.slice" with systemd.
func isPods(name string) bool {
	return name == "kubepods" || name == "kubepods.slice" || strings.HasSuffix(name, "-kubepods.slice")
}

func isCgroup2(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// cgroup is a cgroup's folder, and the id of the cgroup that was there.
type cgroup struct {
	dir string
	id  uint64
}

// openCgroup opens a cgroup.
func openCgroup(dir string) (*os.File, *cgroup, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, &cgroup{dir, st.Ino}, nil
}

// there reports whether that cgroup is still there. A kubelet that lost its cgroup
// makes another, and links go with theirs.
func (p *cgroup) there() bool {
	var st unix.Stat_t
	return p != nil && unix.Stat(p.dir, &st) == nil && st.Ino == p.id
}
