package ebpf

import (
	"fmt"
	"maps"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Exclude names the pods, by UID, whose sockets are left to the Dataplane behind
// from the next Sync on. Until it is called those stay excluded that an earlier
// Engine was told. It may be called from anywhere.
func (e *Engine) Exclude(uids []string) { e.exclude.Store(&uids) }

// excludePods makes the programs pass over the cgroups of those pods. A pod that
// has none yet is looked for again by the next Sync.
func (e *Engine) excludePods() error {
	uids := e.exclude.Load()
	if uids == nil {
		return nil
	}
	want := map[uint64]bool{}
	e.podsMissing = 0
	if len(*uids) > 0 {
		found, err := cgroupsOf(e.cgroup.dir, *uids)
		if err != nil {
			return fmt.Errorf("cgroups of pods: %w", err)
		}
		want, e.podsMissing = found, len(*uids)-len(found)
	}
	if maps.Equal(want, e.excluded) {
		return nil
	}
	for id := range want {
		if err := e.objects.Excluded.Put(id, uint8(1)); err != nil {
			return fmt.Errorf("write %s: %w", e.objects.Excluded, err)
		}
	}
	for id := range e.excluded {
		if want[id] {
			continue
		}
		if err := e.objects.Excluded.Delete(id); err != nil {
			return fmt.Errorf("delete from %s: %w", e.objects.Excluded, err)
		}
	}
	e.excluded = want
	e.config.Excluded = uint32(len(want)) //nolint:gosec // pods of one node
	return e.configure()
}

// readExcluded is what an earlier Engine excluded.
func (e *Engine) readExcluded() (map[uint64]bool, error) {
	ids := map[uint64]bool{}
	return ids, each(e.objects.Excluded, func(id uint64, _ uint8) { ids[id] = true })
}

// cgroupsOf returns the ids of the cgroups of pods, which a kubelet makes at dir
// or one level below it.
func cgroupsOf(dir string, uids []string) (map[uint64]bool, error) {
	ids := map[uint64]bool{}
	for _, pattern := range []string{"*pod*", "*/*pod*"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		for _, path := range found {
			uid := podUID(filepath.Base(path))
			for _, u := range uids {
				var st unix.Stat_t
				if uid == u && unix.Stat(path, &st) == nil {
					ids[st.Ino] = true
				}
			}
		}
	}
	return ids, nil
}

// podUID reads the name of a pod's cgroup: pod3e2f…-… with the driver cgroupfs,
// kubepods-burstable-pod3e2f…_….slice with systemd. "" if it is none.
func podUID(name string) string {
	name, slice := strings.CutSuffix(name, ".slice")
	_, uid, ok := cutLast(name, "pod")
	if !ok {
		return ""
	}
	if slice {
		uid = strings.ReplaceAll(uid, "_", "-")
	}
	return uid
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
