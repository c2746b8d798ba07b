package netlink

import (
	"encoding/binary"

	"golang.org/x/net/bpf"

	"github.com/fairlead/fairlead/proxy/nftables"
)

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

// eventFilter returns a filter for datagrams of events that leaves out those that sender
// sent, and those about other tables than ours. A program that writes to nftables often
// would wake the agent each time. A name that begins as ours passes too.
func eventFilter(sender uint32) []bpf.Instruction {
	const most = 0xffffffff
	out := []bpf.Instruction{
		bpf.LoadAbsolute{Off: atSender, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(host(sender)), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.LoadConstant{Dst: bpf.RegX, Val: 0}, // where the message starts
	}
	for range filtered {
		out = append(out, passMessage...)
	}
	return append(out, bpf.RetConstant{Val: most})
}

// passMessage passes the datagram if the message at X is about one of our tables, and else
// makes X the start of the next message. To load what is behind the datagram's end is to
// drop it.
var passMessage = func() []bpf.Instruction {
	const most, scratchX, scratchHigh = 0xffffffff, 0, 1
	name := nftables.TableName
	next := []bpf.Instruction{
		bpf.StoreScratch{Src: bpf.RegX, N: scratchX},
		bpf.LoadIndirect{Off: atLength + lowest(1), Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 8},
		bpf.StoreScratch{Src: bpf.RegA, N: scratchHigh},
		bpf.LoadIndirect{Off: atLength + lowest(0), Size: 1},
		bpf.LoadScratch{Dst: bpf.RegX, N: scratchHigh},
		bpf.ALUOpX{Op: bpf.ALUOpOr},
		bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: 3},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: most &^ 3},
		bpf.LoadScratch{Dst: bpf.RegX, N: scratchX},
		bpf.ALUOpX{Op: bpf.ALUOpAdd},
		bpf.TAX{},
	}
	ours := []bpf.Instruction{
		bpf.LoadIndirect{Off: atFamily, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(packet4.nfproto), SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(packet6.nfproto), SkipTrue: 5},
		bpf.LoadIndirect{Off: atName, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32([]byte(name[:4])), SkipTrue: 3},
		bpf.LoadIndirect{Off: atName + 4, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32([]byte(name[4:8])), SkipTrue: 1},
		bpf.RetConstant{Val: most},
	}
	return append(ours, next...)
}()

// lowest returns where this machine has the byte of 4 with so many lower ones.
func lowest(n uint32) uint32 {
	if host(1)[0] == 1 {
		return n
	}
	return 3 - n
}
