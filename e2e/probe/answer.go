package probe

import (
	"encoding/json"
	"net"
	"os"
)

// Answer is what the test server says about itself and the client.
type Answer struct {
	Pod    string `json:"pod"`            // host name
	Node   string `json:"node,omitempty"` // $NODE_NAME
	Client string `json:"client"`         // address that the server saw, without its port
	Port   string `json:"port"`           // that the server answered on
}

// NewAnswer is the answer of this process to remote, on its address local.
func NewAnswer(local, remote net.Addr) Answer {
	pod, _ := os.Hostname()
	return Answer{Pod: pod, Node: os.Getenv("NODE_NAME"), Client: hostOf(remote), Port: portOf(local)}
}

// Line is the answer as one line of JSON.
func (a Answer) Line() []byte {
	data, _ := json.Marshal(a) // four strings
	return append(data, '\n')
}

func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}

func portOf(a net.Addr) string {
	_, port, _ := net.SplitHostPort(a.String())
	return port
}
