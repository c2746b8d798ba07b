package main

import (
	"encoding/json"
	"net"
	"os"
)

// answer is what the server says about itself and the client.
type answer struct {
	Pod    string `json:"pod"`            // host name
	Node   string `json:"node,omitempty"` // $NODE_NAME
	Client string `json:"client"`         // address that the server saw, without its port
	Port   string `json:"port"`           // that the server answered on
}

func newAnswer(local, remote net.Addr) answer {
	pod, _ := os.Hostname()
	return answer{Pod: pod, Node: os.Getenv("NODE_NAME"), Client: hostOf(remote), Port: portOf(local)}
}

func (a answer) line() []byte {
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
