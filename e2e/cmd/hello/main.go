// Command hello is the lab's test server and the client that measures it.
//
// As a server it answers every HTTP request, TCP connection and UDP datagram
// with one line of JSON: which pod answered, on which node, on which port, and
// which client address it saw. GET /bytes?n=N is N bytes. "hello probe" makes many requests and prints
// what came of them, "hello get" prints a page, "hello lookup" what a name is.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		os.Exit(1) //nolint:gocritic // the process ends: there is nothing left to stop
	}
}

func run(ctx context.Context, args []string) error {
	commands := map[string]func(context.Context, []string) error{"probe": probeCommand, "get": getCommand, "lookup": lookupCommand}
	if len(args) > 0 {
		if command, ok := commands[args[0]]; ok {
			return command(ctx, args[1:])
		}
	}
	return serveCommand(ctx, args)
}

func serveCommand(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("hello", flag.ExitOnError)
	http := flags.String("http", "8080", "ports that answer HTTP, comma-separated; / and POST /ready?ok=false")
	tcp := flags.String("tcp", "", "ports that answer each TCP connection with one line")
	udp := flags.String("udp", "", "ports and ranges of ports, as 10000-20000, that answer each UDP datagram with one line")
	drain := flags.Duration("drain", 0, "how long to go on answering after SIGTERM, not ready")
	if err := flags.Parse(args); err != nil {
		return err
	}
	s, err := newServer(*http, *tcp, *udp)
	if err != nil {
		return err
	}
	return s.run(ctx, *drain)
}
