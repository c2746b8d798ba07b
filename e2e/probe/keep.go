package probe

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// errLost is the failure of a connection that was to be kept.
var errLost = errors.New("the connection was lost")

// kept makes all requests over one connection, and none any more once that is lost.
// The client of net/http gives a connection up by itself if it does not get to hear
// within 50 ms of the answer that the request was written, as on a busy machine.
type kept struct {
	network string
	conn    net.Conn // nil before the first request
	in      *bufio.Reader
	lost    bool
}

// RoundTrip implements http.RoundTripper, for one request at a time.
func (k *kept) RoundTrip(request *http.Request) (*http.Response, error) {
	if k.lost {
		return nil, errLost
	}
	at := net.JoinHostPort(request.URL.Hostname(), cmp.Or(request.URL.Port(), "80"))
	if err := k.connect(request.Context(), at); err != nil {
		return nil, err
	}
	response, err := k.exchange(request)
	if err != nil || response.Close {
		k.lost = true
		k.CloseIdleConnections()
	}
	if timeout := net.Error(nil); err != nil && !(errors.As(err, &timeout) && timeout.Timeout()) {
		return nil, fmt.Errorf("%w: %w", errLost, err)
	}
	return response, err
}

func (k *kept) connect(ctx context.Context, at string) (err error) {
	if k.conn != nil {
		return nil
	}
	if k.conn, err = (&net.Dialer{}).DialContext(ctx, k.network, at); err != nil {
		k.conn = nil
		return err
	}
	k.in = bufio.NewReader(k.conn)
	return nil
}

// exchange returns a response whose body has been read.
func (k *kept) exchange(request *http.Request) (*http.Response, error) {
	if deadline, ok := request.Context().Deadline(); ok {
		if err := k.conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	if err := request.Write(k.conn); err != nil {
		return nil, err
	}
	response, err := http.ReadResponse(k.in, request)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close() // it was read
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, err
}

// CloseIdleConnections closes the connection.
func (k *kept) CloseIdleConnections() {
	if k.conn != nil {
		_ = k.conn.Close()
	}
}
