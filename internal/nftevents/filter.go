// Package nftevents has the kernel leave out, of its events about nftables, those that
// concern others alone. A program that writes to nftables often would wake the agent each
// time otherwise.
package nftevents

import (
	"encoding/binary"

	"golang.org/x/net/bpf"
)

// prefix is how the names of our tables begin. A name of others that begins so passes too.
const prefix = "fairlead"

// filtered is in how many messages of a datagram the kernel looks for our tables. A longer
// datagram is read. The programs of two filters have to fit into net.core.optmem_max, 20 KiB
// in older kernels, and one takes some 5 KiB.
const filtered = 8

// Where a netlink message has what the filter reads, from its start. The first attribute of
// every message about nftables is the name of the table, except that of a new generation,
// which has no family.
const (
	atLength = 0  // 4 bytes in the byte order of this machine, the lower 2 count
	atSender = 12 // 4 bytes in that order
	atFamily = 16
	atName   = 24
)

// Filter returns a filter for datagrams of events that leaves out those that sender sent, 0
// for the kernel itself, and those about other tables than ours in the families, which are
// unix.NFPROTO_IPV4 and so on. All messages of one datagram are of one transaction, so it
// looks for the sender in the first one.
func Filter(sender uint32, families ...uint8) ([]bpf.RawInstruction, error) {
	return bpf.Assemble(filter(sender, families))
}

func filter(sender uint32, families []uint8) []bpf.Instruction {
	const most = 0xffffffff
	out := []bpf.Instruction{
		bpf.LoadAbsolute{Off: atSender, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(host(sender)), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.LoadConstant{Dst: bpf.RegX, Val: 0}, // where the message starts
	}
	for range filtered {
		out = append(append(out, passOurs(families)...), nextMessage...)
	}
	return append(out, bpf.RetConstant{Val: most})
}

// passOurs passes the datagram if the message at X is about one of our tables.
func passOurs(families []uint8) []bpf.Instruction {
	const most, name = 0xffffffff, 5 // name is how many instructions compare the name
	out := []bpf.Instruction{bpf.LoadIndirect{Off: atFamily, Size: 1}}
	for i, f := range families {
		if left := uint8(len(families) - 1 - i); left > 0 {
			out = append(out, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(f), SkipTrue: left})
		} else {
			out = append(out, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(f), SkipTrue: name})
		}
	}
	return append(
		out,
		bpf.LoadIndirect{Off: atName, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32([]byte(prefix[:4])), SkipTrue: 3},
		bpf.LoadIndirect{Off: atName + 4, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32([]byte(prefix[4:8])), SkipTrue: 1},
		bpf.RetConstant{Val: most},
	)
}

// nextMessage makes X the start of the next message. To load what is behind the datagram's
// end is to drop it.
var nextMessage = []bpf.Instruction{
	bpf.StoreScratch{Src: bpf.RegX, N: scratchX},
	bpf.LoadIndirect{Off: atLength + lowest(1), Size: 1},
	bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 8},
	bpf.StoreScratch{Src: bpf.RegA, N: scratchHigh},
	bpf.LoadIndirect{Off: atLength + lowest(0), Size: 1},
	bpf.LoadScratch{Dst: bpf.RegX, N: scratchHigh},
	bpf.ALUOpX{Op: bpf.ALUOpOr},
	bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: 3},
	bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xfffffffc},
	bpf.LoadScratch{Dst: bpf.RegX, N: scratchX},
	bpf.ALUOpX{Op: bpf.ALUOpAdd},
	bpf.TAX{},
}

// Places of the filter's memory.
const scratchX, scratchHigh = 0, 1

// lowest returns where this machine has the byte of 4 with so many lower ones.
func lowest(n uint32) uint32 {
	if host(1)[0] == 1 {
		return n
	}
	return 3 - n
}

func host(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
