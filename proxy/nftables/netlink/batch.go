package netlink

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/proxy/nftables"
)

// request is one message that was appended to a batch, for errors.
type request struct {
	what  string
	elems []nftables.Element
	offs  []uint32 // where each element starts, from the start of the message
}

// batch is one nfnetlink transaction, built in place.
type batch struct {
	table    string // the name of the table
	buf      []byte
	seq      uint32
	last     int // where the last message starts
	requests map[uint32]*request
	err      error
	sets     uint32 // ids of anonymous sets
}

// newBatch starts a transaction. It names no generation of the ruleset, which others
// raise too: the kernel would refuse ours whenever somebody else wrote to any table.
func newBatch(firstSeq uint32) *batch {
	b := &batch{table: nftables.TableName, seq: firstSeq, requests: map[uint32]*request{}}
	b.message(unix.NFNL_MSG_BATCH_BEGIN, 0, 0, "begin")()
	b.resID(0)
	return b
}

// empty reports whether nothing was appended since newBatch.
func (b *batch) empty() bool { return len(b.requests) == 1 }

// nlmsghdr 16 bytes, nfgenmsg 4 bytes.
const headerLen = 20

// message starts a message; the returned func ends it.
func (b *batch) message(typ uint16, flags uint16, family byte, what string) func() {
	start := len(b.buf)
	b.last = start
	h := make([]byte, headerLen)
	binary.NativeEndian.PutUint16(h[4:], typ)
	binary.NativeEndian.PutUint16(h[6:], unix.NLM_F_REQUEST|flags)
	binary.NativeEndian.PutUint32(h[8:], b.seq)
	h[16] = family
	b.buf = append(b.buf, h...)
	b.requests[b.seq] = &request{what: what}
	b.seq++
	return func() { binary.NativeEndian.PutUint32(b.buf[start:], uint32(len(b.buf)-start)) }
}

// resID sets the subsystem in the nfgenmsg of the message that starts at start,
// which begins and ends of batches need.
func (b *batch) resID(start int) {
	binary.BigEndian.PutUint16(b.buf[start+18:], unix.NFNL_SUBSYS_NFTABLES)
}

// finish ends the batch and returns the sequence number of the last request,
// which the kernel is asked to acknowledge.
func (b *batch) finish() uint32 {
	flags := binary.NativeEndian.Uint16(b.buf[b.last+6:])
	binary.NativeEndian.PutUint16(b.buf[b.last+6:], flags|unix.NLM_F_ACK)
	seq, start := b.seq-1, len(b.buf)
	b.message(unix.NFNL_MSG_BATCH_END, 0, 0, "end")()
	b.resID(start)
	return seq
}

func (b *batch) attr(typ uint16, data []byte) {
	b.buf = binary.NativeEndian.AppendUint16(b.buf, uint16(4+len(data)))
	b.buf = binary.NativeEndian.AppendUint16(b.buf, typ)
	b.buf = append(b.buf, data...)
	b.pad()
}

func (b *batch) str(typ uint16, s string) {
	b.buf = binary.NativeEndian.AppendUint16(b.buf, uint16(4+len(s)+1))
	b.buf = binary.NativeEndian.AppendUint16(b.buf, typ)
	b.buf = append(append(b.buf, s...), 0)
	b.pad()
}

func (b *batch) bytes(typ uint16, s string) {
	b.buf = binary.NativeEndian.AppendUint16(b.buf, uint16(4+len(s)))
	b.buf = binary.NativeEndian.AppendUint16(b.buf, typ)
	b.buf = append(b.buf, s...)
	b.pad()
}

func (b *batch) u32(typ uint16, v uint32) {
	b.buf = binary.NativeEndian.AppendUint16(b.buf, 8)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, typ)
	b.buf = binary.BigEndian.AppendUint32(b.buf, v)
}

func (b *batch) pad() {
	for len(b.buf)%4 != 0 {
		b.buf = append(b.buf, 0)
	}
}

// nest starts an attribute that holds attributes; close ends it.
func (b *batch) nest(typ uint16) int {
	b.buf = append(b.buf, 0, 0)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, typ|unix.NLA_F_NESTED)
	return len(b.buf) - 4
}

func (b *batch) close(start int) {
	n := len(b.buf) - start
	if n > 0xffff && b.err == nil {
		b.err = fmt.Errorf("an attribute of %d bytes does not fit its 16-bit length", n)
	}
	binary.NativeEndian.PutUint16(b.buf[start:], uint16(n))
}

func nft(msg uint16) uint16 { return unix.NFNL_SUBSYS_NFTABLES<<8 | msg }
