package controlplane

import "time"

// The times of the questions that a node asks its own kube-apiserver.
const (
	AskEvery = 200 * time.Millisecond
	// AskAgain follows a question without a good answer.
	AskAgain = 50 * time.Millisecond
	// AskFor is how long an answer may take. On a busy node it takes a second and more, and
	// the other nodes are as busy then.
	AskFor = 3 * time.Second
	// FailsFor is how long the server of a node that holds an address has to give no good
	// answer to be unfit. One that refuses connections is unfit after mostRefused of them.
	FailsFor = 3 * time.Second
	// FitFor is how long that of another node has to give good answers to be fit again.
	FitFor      = 2 * time.Second
	mostRefused = 2
)

// Answer is what came of one question.
type Answer uint8

// The answers.
const (
	Good    Answer = iota // it lives
	Bad                   // it says that it does not, or says nothing in time
	Refused               // nothing listens
)

// Fitness is whether a kube-apiserver can serve, as its answers show. The zero value knows
// nothing.
type Fitness struct {
	Known bool // an answer came
	Fit   bool

	since   time.Time // since when the answers are good, or are not
	good    bool      // they are
	refused int       // in a row
}

// Next takes in an answer at now. The first answer counts at once: this program may have
// started beside a server that runs. Later ones have to last, so that a server that is slow
// for a moment does not move the address: bad ones on a node that holds an address, good ones
// on any other. When all servers fail or recover together, as with etcd's quorum, the address
// stays: the node that holds it is the last to be unfit, and the first to be fit.
func (f Fitness) Next(a Answer, holds bool, now time.Time) Fitness {
	good := a == Good
	switch {
	case !f.Known:
		return Fitness{Known: true, Fit: good, good: good, since: now}
	case good != f.good:
		f.good, f.since, f.refused = good, now, 0
	}
	if a == Refused {
		f.refused++
	} else {
		f.refused = 0
	}
	lasts := now.Sub(f.since)
	switch {
	case f.Fit && !good:
		f.Fit = holds && f.refused < mostRefused && lasts < FailsFor
	case !f.Fit && good:
		f.Fit = holds || lasts >= FitFor
	}
	return f
}

// Pause is the time until the next question after an answer.
func Pause(a Answer) time.Duration {
	if a == Good {
		return AskEvery
	}
	return AskAgain
}
