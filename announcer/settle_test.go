package announcer

import (
	"testing"
	"time"
)

// TestSettling asks a node each second whether it is settled, under what holds
// from some second on.
func TestSettling(t *testing.T) {
	type from map[int]func(*SettleInput)
	others := func(seasoned, inTouch int) func(*SettleInput) {
		return func(a *SettleInput) { a.Met, a.OthersLongSettled, a.OthersInTouch = true, seasoned, inTouch }
	}
	cutOff := func(on bool) func(*SettleInput) { return func(a *SettleInput) { a.CutOff = on } }
	inSync := func(on bool) func(*SettleInput) { return func(a *SettleInput) { a.InSync = on } }
	tests := []struct {
		name    string
		from    from
		settled map[int]bool
	}{
		{"it joins others: after 60 s", from{0: others(2, 2)}, map[int]bool{0: false, 59: false, 60: true, 500: true}},
		{"all start together: at once", from{0: others(0, 2)}, map[int]bool{0: true}},
		{"alone: after 3 s in which nobody was met", from{}, map[int]bool{0: false, 2: false, 3: true}},
		{"alone by configuration: at once", from{0: func(a *SettleInput) { a.Met = true }}, map[int]bool{0: true}},
		{"not before the engine is in sync", from{0: func(a *SettleInput) { a.Met, a.InSync = true, false }, 9: inSync(true)}, map[int]bool{8: false, 9: true}},
		{"60 s from then on", from{0: func(a *SettleInput) { others(2, 2)(a); a.InSync = false }, 9: inSync(true)}, map[int]bool{60: false, 68: false, 69: true}},
		{"the engine fails: 60 s again", from{0: others(0, 2), 1: others(2, 2), 100: inSync(false), 101: inSync(true)}, map[int]bool{99: true, 100: false, 101: false, 160: false, 161: true}},
		{"it boots among others that are not seasoned: when its pods have started", from{0: func(a *SettleInput) { others(0, 2)(a); a.Booted = true }, 10: func(a *SettleInput) { a.Booted = false }}, map[int]bool{0: false, 9: false, 10: true}},
		{"it boots: after 60 s", from{0: func(a *SettleInput) { others(2, 2)(a); a.Booted = true }, 10: func(a *SettleInput) { a.Booted = false }}, map[int]bool{10: false, 59: false, 60: true}},
		{"a restart: at once", from{0: func(a *SettleInput) { others(2, 2)(a); a.Restarted = &Report{Settled: true} }}, map[int]bool{0: true}},
		{"it stood still: 60 s again", from{0: others(0, 2), 1: others(2, 2), 100: func(a *SettleInput) { a.StoodStill = 30 * time.Second }, 101: func(a *SettleInput) { a.StoodStill = 0 }}, map[int]bool{99: true, 100: false, 159: false, 160: true}},
		{"it stood still when nobody was seasoned: the others are by now", from{0: others(0, 2), 30: func(a *SettleInput) { a.StoodStill = 20 * time.Second }, 31: func(a *SettleInput) { a.StoodStill = 0 }, 32: others(2, 2)},
			map[int]bool{29: true, 30: false, 33: false, 89: false, 90: true}},
		{"all stood still: after 3 s in which they hear of each other", from{0: others(0, 2), 1: others(2, 2), 100: func(a *SettleInput) { others(0, 2)(a); a.StoodStill = time.Hour }, 101: func(a *SettleInput) { a.StoodStill = 0 }},
			map[int]bool{99: true, 100: false, 102: false, 103: true}},
		{"a short stall is none", from{0: others(0, 2), 1: others(2, 2), 100: func(a *SettleInput) { a.StoodStill = FrozenAfter - 1 }}, map[int]bool{100: true}},
		{"it stood still, and nobody else is there: at once", from{0: others(0, 0), 100: func(a *SettleInput) { a.StoodStill = time.Minute }}, map[int]bool{100: true}},
		{"cut off it goes on; back with the majority it waits", from{
			0: others(0, 2), 1: others(2, 2),
			100: func(a *SettleInput) { others(0, 0)(a); a.CutOff = true },
			200: func(a *SettleInput) { others(2, 2)(a); a.CutOff = false },
		}, map[int]bool{150: true, 199: true, 200: false, 259: false, 260: true}},
		{"all were cut off from all: they go on", from{
			0: others(0, 2), 1: others(2, 2), 100: func(a *SettleInput) { others(0, 0)(a); a.CutOff = true },
			200: func(a *SettleInput) { others(2, 0)(a); a.CutOff = false }, 211: others(2, 2),
		}, map[int]bool{150: true, 200: true, 211: true, 300: true}},
		{"others took over from it: 60 s again", from{0: others(0, 2), 1: others(2, 2), 100: func(a *SettleInput) { a.Lost = true }, 103: func(a *SettleInput) { a.Lost = false }}, map[int]bool{99: true, 100: false, 103: false, 161: false, 162: true}},
		{"others took over from it that are not seasoned either: after 3 s", from{0: others(0, 2), 50: func(a *SettleInput) { a.Lost = true }, 53: func(a *SettleInput) { a.Lost = false }}, map[int]bool{49: true, 50: false, 54: false, 55: true}},
		{"to be cut off from nobody changes nothing", from{0: others(0, 2), 50: cutOff(true), 51: cutOff(false), 52: others(0, 0)}, map[int]bool{50: true, 52: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s SettleState
			a := SettleInput{InSync: true}
			for i := range 600 {
				if change := tt.from[i]; change != nil {
					change(&a)
				}
				a.Now = second(float64(i))
				s = s.Next(a)
				if want, asked := tt.settled[i]; asked && s.Settled != want {
					t.Errorf("at %d s settled is %t", i, s.Settled)
				}
			}
		})
	}
}

// TestSeasoned: a minute after settling; a restart does not begin that minute again.
func TestSeasoned(t *testing.T) {
	var s SettleState
	for i := range 62 {
		s = s.Next(SettleInput{Now: second(float64(i)), InSync: true, Met: true})
		if s.LongSettled != (i >= 60) {
			t.Errorf("at %d s seasoned is %t", i, s.LongSettled)
		}
	}
	for _, before := range []bool{true, false} {
		s := SettleState{}.Next(SettleInput{Now: second(0), InSync: true, Met: true, OthersLongSettled: 1, Restarted: &Report{Settled: true, LongSettled: before}})
		if !s.Settled || s.LongSettled != before {
			t.Errorf("after a restart: %+v", s)
		}
	}
}

// TestIsolated: who was cut off says so for a while.
func TestIsolated(t *testing.T) {
	var s SettleState
	for i := range 40 {
		s = s.Next(SettleInput{Now: second(float64(i)), InSync: true, Met: true, CutOff: i >= 10 && i < 20})
		if want := i >= 10 && i < 29; s.Isolated != want {
			t.Errorf("at %d s isolated is %t", i, s.Isolated)
		}
	}
}
