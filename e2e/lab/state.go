package lab

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Environment variables that move the lab's files.
const (
	StateEnv = "FAIRLEAD_LAB_STATE"
	CacheEnv = "FAIRLEAD_LAB_CACHE"
)

// CNIEnv names the CNI of the lab that tests bring up, one of CNIs; empty for the lab's own
// links and routes.
const CNIEnv = "FAIRLEAD_CNI"

// VersionEnv names the minor version of Kubernetes for tests, such as 1.29; empty for the
// newest that programs/ has.
const VersionEnv = "FAIRLEAD_KUBERNETES"

// state is the lab's directory. Everything below run goes away with the lab;
// logs stay until the next lab comes up.
type state string

func defaultState() state  { return state(fromEnv(StateEnv, "/var/lib/fairlead-lab")) }
func defaultCache() string { return fromEnv(CacheEnv, "/var/cache/fairlead-lab") }

func fromEnv(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

func (s state) logs() string              { return filepath.Join(string(s), "logs") }
func (s state) log(name string) string    { return filepath.Join(s.logs(), name+".log") }
func (s state) run() string               { return filepath.Join(string(s), "run") }
func (s state) file(name string) string   { return filepath.Join(s.run(), name) }
func (s state) record(name string) string { return filepath.Join(s.run(), "processes", name) }
func (s state) node(name string) string   { return filepath.Join(s.run(), "nodes", name) }

// prepare makes an empty lab: its directories, and the boot that it belongs to.
func (s state) prepare() error {
	if err := os.RemoveAll(s.logs()); err != nil {
		return err
	}
	for _, dir := range []string{s.logs(), s.file("processes"), s.file("nodes"), s.file("images"), s.file("bin"), s.file("pki")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	boot, err := os.ReadFile(bootID)
	if err != nil {
		return err
	}
	return os.WriteFile(s.file("boot"), boot, 0o644)
}

const bootID = "/proc/sys/kernel/random/boot_id"

// sameBoot is false when the records are of an earlier boot of the machine:
// then their pids mean nothing.
func (s state) sameBoot() bool {
	was, err := os.ReadFile(s.file("boot"))
	now, err2 := os.ReadFile(bootID)
	return err == nil && err2 == nil && bytes.Equal(was, now)
}

// saved is what another run of the lab command needs to attach.
type saved struct {
	Nodes     []string          `json:"nodes"`
	Programs  map[string]string `json:"programs"`
	KubeProxy bool              `json:"kubeProxy"`
	Ready     bool              `json:"ready"`

	CNI        string `json:"cni,omitempty"`
	Kubernetes string `json:"kubernetes,omitempty"`
}

func (s state) save(v saved) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	next := s.file("lab.json.next")
	if err := os.WriteFile(next, data, 0o644); err != nil {
		return err
	}
	return os.Rename(next, s.file("lab.json"))
}

func (s state) load() (saved, error) {
	var v saved
	data, err := os.ReadFile(s.file("lab.json"))
	if err != nil {
		return v, err
	}
	return v, json.Unmarshal(data, &v)
}

// remove deletes run, unless something is still mounted below it.
func (s state) remove() error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	if strings.Contains(string(mounts), " "+s.run()+"/") {
		return fmt.Errorf("remove %s: something is mounted below it", s.run())
	}
	return os.RemoveAll(s.run())
}

// exists reports whether anything of a lab, whole or not, is there.
func (s state) exists() bool {
	_, err := os.Stat(s.run())
	return !errors.Is(err, os.ErrNotExist)
}
