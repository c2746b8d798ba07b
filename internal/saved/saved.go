// Package saved keeps on disk what an agent starts from while no API server answers.
package saved

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// State is enough to forward and announce.
type State struct {
	Node     string
	Written  time.Time
	Proxy    string // who forwarded; "": not known
	Snapshot *snapshot.Snapshot
}

// Paths returns the files in dir that may hold a State: that of this version, and that
// of v0.1.0.
func Paths(dir string) []string {
	return []string{filepath.Join(dir, "snapshot"), filepath.Join(dir, "snapshot.json")}
}

// magic begins the file. Behind it come a head in JSON, the Services and addresses in a
// compact form, and a checksum of it all.
const magic = "fairlead snapshot 4\n"

var sums = crc32.MakeTable(crc32.Castagnoli)

// head is a State without the Services and addresses: there may be fifty thousand.
// JSON takes ten times the time and the space for them.
type head State

// Write writes s in dir, whole or not at all. A file of v0.1.0 goes: it is older.
func Write(dir string, s State) error {
	if err := write(dir, s); err != nil {
		return fmt.Errorf("save snapshot: %w", err)
	}
	if err := os.Remove(Paths(dir)[1]); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Tidy removes what an agent left in dir that was killed while it wrote a file there.
func Tidy(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, "*.new"))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

func write(dir string, s State) error {
	f, err := os.CreateTemp(dir, "snapshot-*.new")
	if err != nil {
		return err
	}
	err = errors.Join(encode(f, s), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), Paths(dir)[0])
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func encode(to io.Writer, s State) error {
	sum := crc32.New(sums)
	out := bufio.NewWriterSize(io.MultiWriter(to, sum), 1<<16)
	rest := *s.Snapshot
	rest.Services, rest.Addresses, rest.NodeAddresses = nil, nil, nil
	h := head(s)
	h.Snapshot = &rest
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	text := string(data)
	c := &coder{w: out, index: map[string]uint64{}}
	c.write([]byte(magic))
	c.text(&text)
	c.snapshot(s.Snapshot)
	if err := errors.Join(c.err, out.Flush()); err != nil {
		return err
	}
	_, err = to.Write(binary.BigEndian.AppendUint32(nil, sum.Sum32()))
	return err
}

// Read returns what the last agent of this node saved in dir; nil if there is nothing.
// It returns an error if there is nothing that this agent can start from.
func Read(dir, node string) (*State, error) {
	var newest *State
	var errs []error
	for _, path := range Paths(dir) {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var s *State
		if err == nil {
			s, err = Decode(data, node)
		}
		errs = append(errs, err)
		// After a downgrade and an upgrade there are both.
		if s != nil && (newest == nil || s.Written.After(newest.Written)) {
			newest = s
		}
	}
	if newest != nil {
		return newest, nil
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("load snapshot: %w", err)
	}
	return nil, nil
}

// Decode returns the State of node in a file of this version or of v0.1.0.
func Decode(data []byte, node string) (*State, error) {
	s, err := decode(data)
	switch {
	case err != nil:
		return nil, err
	case s.Node != node:
		return nil, fmt.Errorf("it is of node %q; want %q", s.Node, node)
	case s.Snapshot == nil || !whole(s.Snapshot):
		return nil, errors.New("it is damaged: something in it is empty")
	}
	s.Snapshot.Sort()
	return s, nil
}

func decode(data []byte) (*State, error) {
	rest, ok := bytes.CutPrefix(data, []byte(magic))
	if !ok {
		return decodeV010(data)
	}
	if len(rest) < crc32.Size {
		return nil, errShort
	}
	end := len(data) - crc32.Size
	if crc32.Checksum(data[:end], sums) != binary.BigEndian.Uint32(data[end:]) {
		return nil, errors.New("it is damaged: its checksum is another")
	}
	c := &coder{data: rest[:len(rest)-crc32.Size]}
	var text string
	c.text(&text)
	var h head
	if err := errors.Join(c.err, json.Unmarshal([]byte(text), &h)); err != nil {
		return nil, err
	}
	if h.Snapshot != nil {
		c.snapshot(h.Snapshot)
	}
	return (*State)(&h), c.err
}

// decodeV010 reads what v0.1.0 wrote, which has no checksum.
func decodeV010(data []byte) (*State, error) {
	var f struct {
		Version int
		State
	}
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, err
	}
	if f.Version != 1 {
		return nil, fmt.Errorf("it is of version %d", f.Version)
	}
	return &f.State, nil
}

// whole reports whether no list has an empty place, which nobody expects.
func whole(s *snapshot.Snapshot) bool {
	return !slices.Contains(s.Services, nil) && !slices.Contains(s.Nodes, nil) && !slices.Contains(s.Pools, nil) &&
		!slices.Contains(s.Addresses, nil) && !slices.Contains(s.NodeAddresses, nil) && !slices.Contains(s.NodeStates, nil) && !slices.Contains(s.Namespaces, nil) &&
		!slices.Contains(s.Announcements, nil) && !slices.Contains(s.ServiceCIDRs, nil) && !slices.Contains(s.BGPPeers, nil)
}
