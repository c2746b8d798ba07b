package gobgp

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"time"
)

// The types of BGP messages (RFC 4271 section 4.1, RFC 2918).
const (
	typeOpen         = 1
	typeUpdate       = 2
	typeNotification = 3
	typeKeepalive    = 4
	typeRouteRefresh = 5
)

const (
	headerLen  = 19
	longestMsg = 4096 // extended messages (RFC 8654) are not offered
)

// notification is why the sieve ends a session, as the router is told it
// (RFC 4271 section 4.5).
type notification struct {
	code, subcode uint8
	why           string
}

func (n *notification) Error() string { return "the router sends " + n.why }

// message is n as it travels.
func (n *notification) message() []byte {
	return frame(typeNotification, []byte{n.code, n.subcode})
}

// frame puts a header before body.
func frame(kind uint8, body []byte) []byte {
	out := slices.Grow(slices.Repeat([]byte{0xff}, 16), headerLen-16+len(body))
	out = binary.BigEndian.AppendUint16(out, uint16(headerLen+len(body)))
	return append(append(out, kind), body...)
}

// sieve passes on what a session needs of a router's messages. gobgp gets an OPEN
// that the sieve wrote, KEEPALIVEs, plain ROUTE-REFRESHs and a NOTIFICATION. It never
// gets an UPDATE: nothing that a router announces is decoded, kept or counted.
type sieve struct {
	from     io.Reader
	buf      [longestMsg]byte
	opened   bool              // the OPEN has come
	up       time.Time         // when a KEEPALIVE came after it; zero: the session is not up
	told     time.Time         // when gobgp last heard that the router lives
	opening  func(offer) error // called with what the OPEN offers, before it is passed on
	notified func([2]uint8)    // called with the code and subcode of a NOTIFICATION
}

// next reads one message and returns what to pass on, if anything. The error is a
// *notification if the router is at fault, and otherwise the connection's.
func (s *sieve) next() ([]byte, error) {
	head := s.buf[:headerLen]
	if _, err := io.ReadFull(s.from, head); err != nil {
		return nil, err
	}
	size, kind := int(binary.BigEndian.Uint16(head[16:])), head[18]
	// The errors of RFC 4271 section 6.1.
	switch {
	case slices.ContainsFunc(head[:16], func(b byte) bool { return b != 0xff }):
		return nil, &notification{1, 1, "a message without the marker"}
	case size < headerLen || size > longestMsg:
		return nil, &notification{1, 2, fmt.Sprintf("a message of %d bytes", size)}
	}
	body := s.buf[headerLen:size]
	if _, err := io.ReadFull(s.from, body); err != nil {
		return nil, err
	}
	return s.pass(kind, body)
}

func (s *sieve) pass(kind uint8, body []byte) ([]byte, error) {
	switch {
	case kind == typeNotification && len(body) >= 2:
		s.notified([2]uint8(body))
		return frame(typeNotification, body[:min(len(body), 2+255)]), nil
	// One of these ended the process of gobgp v3.37.0.
	case kind < typeOpen || kind > typeRouteRefresh:
		return nil, &notification{1, 3, fmt.Sprintf("a message of the unknown type %d", kind)}
	case kind == typeNotification, kind == typeKeepalive && len(body) > 0, kind == typeUpdate && len(body) < 4, kind == typeRouteRefresh && len(body) < 4:
		return nil, &notification{1, 2, fmt.Sprintf("a message of type %d with %d bytes", kind, headerLen+len(body))}
	case kind == typeOpen && !s.opened:
		return s.open(body)
	case kind == typeOpen:
		// The subcodes of RFC 6608 say in which state it came.
		return nil, &notification{5, 3, "a second OPEN"}
	case !s.opened:
		return nil, &notification{5, 1, "another message before its OPEN"}
	case kind == typeKeepalive:
		s.told = time.Now()
		if s.up.IsZero() {
			s.up = s.told
		}
		return frame(kind, nil), nil
	case s.up.IsZero():
		return nil, &notification{5, 2, "another message before its first KEEPALIVE"}
	// gobgp ended its process on several malformed ones.
	case kind == typeUpdate:
		return s.heard(), nil
	}
	return refresh(body), nil
}

// upFor is how long the session has been up.
func (s *sieve) upFor() time.Duration {
	if s.up.IsZero() {
		return 0
	}
	return time.Since(s.up)
}

// heard stands for an UPDATE, which keeps a session alive as a KEEPALIVE does
// (RFC 4271 section 8.2.2, event 27). One a second is enough for every hold time.
func (s *sieve) heard() []byte {
	if time.Since(s.told) < time.Second {
		return nil
	}
	s.told = time.Now()
	return frame(typeKeepalive, nil)
}

// refresh returns the ROUTE-REFRESH of a family that is announced; those with
// filters, and the marks of RFC 7313, were not offered.
func refresh(body []byte) []byte {
	afi, safi := binary.BigEndian.Uint16(body), body[3]
	if len(body) != 4 || body[2] != 0 || safi != safiUnicast || afi != afiIPv4 && afi != afiIPv6 {
		return nil
	}
	return frame(typeRouteRefresh, body)
}

func (s *sieve) open(body []byte) ([]byte, error) {
	o, err := readOpen(body)
	if err != nil {
		return nil, err
	}
	if err := s.opening(o); err != nil {
		return nil, err
	}
	s.opened = true
	return frame(typeOpen, o.body()), nil
}
