package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/cli/explain"
	"github.com/fairlead/fairlead/internal/cli/status"
	"github.com/fairlead/fairlead/internal/cli/survey"
	"github.com/fairlead/fairlead/internal/cli/top"
	"github.com/fairlead/fairlead/internal/traffic"
)

func (e *Env) top() *cobra.Command {
	var once bool
	var every time.Duration
	cmd := &cobra.Command{
		Use: "top [--once]", Args: cobra.NoArgs,
		Short: "Show live what goes through each address",
		Long: `top shows each address that Services hold, who announces it, new connections and
bytes a second, ready endpoints, and when it last moved to another node. It asks the
agents through the API server (pods/proxy); they count while somebody asks, from the
kernel's table of connections, which lacks those that eBPF connects directly. On a
terminal the table is live until q is pressed; elsewhere, or with --once or -o, it is
printed once, after two looks.`,
	}
	cmd.Flags().BoolVar(&once, "once", false, "print the table once")
	cmd.Flags().DurationVar(&every, "interval", 2*time.Second, "time between two looks")
	out := e.outputFlag(cmd, false)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if every < time.Second {
			return blind(errors.New("--interval: 1s at least: the agents do not look more often"))
		}
		w := &watch{env: e, counted: top.Counted{}}
		if once || out.given != "" || !e.terminal() {
			return blind(w.once(cmd.Context(), every, out))
		}
		w.ctx, w.every = cmd.Context(), every
		if _, err := tea.NewProgram(w, tea.WithContext(cmd.Context()), tea.WithAltScreen()).Run(); err != nil {
			return blind(err)
		}
		return blind(w.err)
	}
	return cmd
}

// terminal reports whether Out is one, whether its user wants colours or not.
func (e *Env) terminal() bool {
	f, ok := e.Out.(*os.File)
	return ok && terminal(f)
}

// watch looks again and again.
type watch struct {
	env     *Env
	ctx     context.Context //nolint:containedctx // bubbletea calls without one
	every   time.Duration
	height  int
	client  *Client
	objects *survey.Objects
	read    time.Time
	counted top.Counted
	table   top.Table // that is shown
	err     error
}

// readEvery is how old what the API server said may become: it lists the whole
// cluster.
const readEvery = 5 * time.Second

// refresh reads the cluster, if it is time, and asks the agents.
func (w *watch) refresh(ctx context.Context) (top.Table, error) {
	if w.objects == nil || time.Since(w.read) >= readEvery {
		o, c, err := w.env.read(ctx)
		if err != nil {
			return top.Table{}, err
		}
		w.objects, w.client, w.read = o, c, time.Now()
	}
	w.objects.Now = w.client.Now()
	s := w.objects.State()
	reports, unheard := w.ask(ctx, s)
	for _, r := range reports {
		w.counted.Add(r)
	}
	return top.Of(s, w.counted, unheard), nil
}

// ask asks every agent at once.
func (w *watch) ask(ctx context.Context, s *cluster.State) (reports []traffic.Report, unheard map[string]string) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	unheard = map[string]string{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, p := range s.PodsOf("agent") {
		wg.Go(func() {
			r, err := w.askOne(ctx, s, p)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				unheard[p.Node] = err.Error()
				return
			}
			reports = append(reports, r)
		})
	}
	wg.Wait()
	return reports, unheard
}

func (w *watch) askOne(ctx context.Context, s *cluster.State, p cluster.Pod) (r traffic.Report, err error) {
	if a := s.NodeState(p.Node); p.Health == 0 || a != nil && a.Engine.Mode != "nftables" && a.Engine.Mode != "" {
		return r, errors.New("another proxy forwards there and has the port on which the agent would answer")
	}
	data, err := w.client.Kube.CoreV1().Pods(s.Namespace).ProxyGet("http", p.Name, strconv.Itoa(p.Health), traffic.Path, nil).DoRaw(ctx)
	switch {
	case apierrors.IsForbidden(err):
		return r, fmt.Errorf("you may not get pods/proxy in namespace %s: ask for the Role fairlead-top there (docs/cli.md)", s.Namespace)
	case err != nil:
		return r, fmt.Errorf("its agent %s does not answer: %w", p.Name, err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("its agent %s answers something else: %w", p.Name, err)
	}
	r.Node = p.Node
	return r, nil
}

// mostLooks is how often once looks: a busy agent looks less often than it is asked.
const mostLooks = 6

// once looks until every agent has counted for a while, and prints.
func (w *watch) once(ctx context.Context, every time.Duration, out *output) error {
	t, err := w.refresh(ctx)
	for n := 1; err == nil && (n == 1 || !w.counted.Twice() && n < mostLooks); n++ {
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return ctx.Err()
		}
		t, err = w.refresh(ctx)
	}
	if err != nil {
		return err
	}
	return out.print(w.env.Out, "Top", t, nil, func() { w.env.screen().top(t, 0) })
}

// top prints the table; height is how many lines there are, 0 if they do not end.
func (s screen) top(t top.Table, height int) {
	rows := t.Rows
	if room := height - len(t.Notes) - 4; height > 0 && len(rows) > max(room, 1) {
		rows = rows[:max(room, 1)]
	}
	var lines []row
	for _, r := range rows {
		lines = append(lines, row{s.good(r.Announcer != "" && r.Ready > 0), []string{
			r.Address, status.Some(r.Services, false), orNone(r.Announcer, "nobody"), number(r.ConnectionsPerSecond), size(r.BytesPerSecond),
			fmt.Sprint(r.Open), fmt.Sprintf("%d/%d", r.Ready, r.Endpoints), orNone(r.MovedAgo, "-"),
		}})
	}
	s.table([]string{"ADDRESS", "SERVICES", "ANNOUNCED BY", "CONN/S", "BYTES/S", "OPEN", "READY", "LAST MOVE"}, lines)
	if n := len(t.Rows) - len(rows); n > 0 {
		s.line("  and %d more", n)
	}
	if len(t.Rows) == 0 {
		s.line("  no Service holds an address")
	}
	for _, n := range t.Notes {
		s.line("%s %s", s.mark(explain.Note), n)
	}
}

func orNone(text, none string) string {
	if text == "" {
		return none
	}
	return text
}

func number(v *float64) string {
	if v == nil {
		return "-"
	}
	return strconv.FormatFloat(*v, 'f', 1, 64)
}

// size writes bytes with a decimal prefix.
func size(v *float64) string {
	if v == nil {
		return "-"
	}
	n, i := *v, 0
	for ; n >= 1000 && i < 4; i++ {
		n /= 1000
	}
	return strings.TrimSuffix(strconv.FormatFloat(n, 'f', min(i, 1), 64)+" "+[]string{"", "k", "M", "G", "T"}[i], " ")
}

// What bubbletea calls: a look at the start, and one each interval.

type looked struct {
	table top.Table
	err   error
}

// Init implements tea.Model.
func (w *watch) Init() tea.Cmd { return w.again }

func (w *watch) again() tea.Msg {
	table, err := w.refresh(w.ctx)
	return looked{table, err}
}

// Update implements tea.Model.
func (w *watch) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		w.height = msg.Height
	case tea.KeyMsg:
		if k := msg.String(); k == "q" || k == "ctrl+c" || k == "esc" {
			return w, tea.Quit
		}
	case looked:
		if w.err = msg.err; w.err != nil && w.table.At.IsZero() {
			return w, tea.Quit // it never could look
		}
		if w.err == nil {
			w.table = msg.table
		}
		return w, tea.Tick(w.every, func(time.Time) tea.Msg { return w.again() })
	}
	return w, nil
}

// View implements tea.Model.
func (w *watch) View() string {
	if w.table.At.IsZero() {
		return "looking…\n"
	}
	var text bytes.Buffer
	s := screen{&text, w.env.Colour}
	s.line("%s  %s, q ends", s.paint(bold, "fairlead top"), w.table.At.Format(time.TimeOnly))
	if w.err != nil {
		s.line("%s", s.paint(red, w.err.Error()))
	}
	s.line("")
	s.top(w.table, w.height-3)
	return text.String()
}
