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

// magic begins the file. Behind it come parts. The first one has a head in JSON, and the
// Services and addresses in a compact form. Each of the others has a time and the Services
// that had changed by then.
const magic = "fairlead snapshot 5\n"

// A part is the length of its content, the content, and a checksum of the content.
const lengthSize = 8

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

// encode writes s to an empty file.
func encode(f *os.File, s State) error {
	sum, length := crc32.New(sums), counter(0)
	out := bufio.NewWriterSize(io.MultiWriter(f, sum, &length), 1<<16)
	rest := *s.Snapshot
	rest.Services, rest.Addresses, rest.NodeAddresses = nil, nil, nil
	h := head(s)
	h.Snapshot = &rest
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if _, err := f.Write(append([]byte(magic), make([]byte, lengthSize)...)); err != nil {
		return err
	}
	text := string(data)
	c := newWriter(out)
	c.text(&text)
	c.snapshot(s.Snapshot)
	if err := errors.Join(c.err, out.Flush()); err != nil {
		return err
	}
	_, err = f.Write(sum.Sum(nil))
	_, also := f.WriteAt(binary.BigEndian.AppendUint64(nil, uint64(length)), int64(len(magic)))
	return errors.Join(err, also)
}

// counter counts the bytes that are written.
type counter uint64

func (n *counter) Write(b []byte) (int, error) {
	*n += counter(len(b))
	return len(b), nil
}

// Amend adds to the file that Write wrote in dir that Services are others since, at time
// now. It takes the work of these alone. After an error what the file says is what it said,
// and the next call has to be Write: what is added behind half of a part is not read.
func Amend(dir string, now time.Time, services []*snapshot.Service) error {
	var content bytes.Buffer
	if err := newWriter(&content).amendment(&now, &services); err != nil {
		return fmt.Errorf("amend snapshot: %w", err)
	}
	part := binary.BigEndian.AppendUint64(nil, uint64(content.Len()))
	part = append(part, content.Bytes()...)
	part = binary.BigEndian.AppendUint32(part, crc32.Checksum(content.Bytes(), sums))
	f, err := os.OpenFile(Paths(dir)[0], os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("amend snapshot: %w", err)
	}
	_, err = f.Write(part)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("amend snapshot: %w", err)
	}
	return nil
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
	content, rest, err := cutPart(rest)
	if err != nil {
		return nil, err
	}
	c := &coder{data: content}
	var text string
	c.text(&text)
	var h head
	if err := errors.Join(c.err, json.Unmarshal([]byte(text), &h)); err != nil {
		return nil, err
	}
	if h.Snapshot != nil {
		c.snapshot(h.Snapshot)
		amend(&h, rest)
	}
	return (*State)(&h), c.err
}

// cutPart returns the content of the first part of data, and what follows it.
func cutPart(data []byte) (content, rest []byte, err error) {
	if len(data) < lengthSize+crc32.Size {
		return nil, nil, errShort
	}
	n := binary.BigEndian.Uint64(data)
	data = data[lengthSize:]
	if n > uint64(len(data)-crc32.Size) {
		return nil, nil, errShort
	}
	content, rest = data[:n], data[n:]
	if crc32.Checksum(content, sums) != binary.BigEndian.Uint32(rest) {
		return nil, nil, errors.New("it is damaged: its checksum is another")
	}
	return content, rest[crc32.Size:], nil
}

// amend takes in the parts behind the first one, up to one that is damaged: a node that
// loses power may have written half of the last one. What came before it is still right.
func amend(h *head, rest []byte) {
	at := map[snapshot.Ref]int{}
	for i, s := range h.Snapshot.Services {
		at[s.Ref] = i
	}
	for len(rest) > 0 {
		content, more, err := cutPart(rest)
		if err != nil {
			return
		}
		rest = more
		var written time.Time
		var services []*snapshot.Service
		if err := (&coder{data: content}).amendment(&written, &services); err != nil {
			return
		}
		h.Written = written
		for _, s := range services {
			if i, known := at[s.Ref]; known {
				h.Snapshot.Services[i] = s
			}
		}
	}
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
