package apiserver

import (
	"io"
	"net"
)

// Pass hands every connection that l takes on to address, until l is closed: so a
// network namespace with l in it reaches an API server on the machine's loopback.
func Pass(l net.Listener, address string) {
	for {
		from, err := l.Accept()
		if err != nil {
			return
		}
		go pass(from, address)
	}
}

// pass copies between a connection and a new one until one side ends.
func pass(from net.Conn, address string) {
	defer func() { _ = from.Close() }()
	to, err := net.Dial("tcp4", address) //nolint:noctx // it ends with the other one
	if err != nil {
		return
	}
	done := make(chan struct{}, 2)
	for _, p := range [][2]net.Conn{{from, to}, {to, from}} {
		go func() { _, _ = io.Copy(p[0], p[1]); done <- struct{}{} }()
	}
	<-done
	_ = to.Close()
}
