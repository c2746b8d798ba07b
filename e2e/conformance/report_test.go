package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const report = `[{"SpecReports": [
 {"LeafNodeType": "SynchronizedBeforeSuite", "State": "passed"},
 {"ContainerHierarchyTexts": ["[sig-network] Services"], "LeafNodeType": "It", "LeafNodeText": "should work", "State": "passed", "RunTime": 7000000000},
 {"ContainerHierarchyTexts": ["[sig-storage] Disks"], "LeafNodeType": "It", "LeafNodeText": "should spin", "State": "skipped"},
 {"ContainerHierarchyTexts": ["[sig-network] Services"], "LeafNodeType": "It", "LeafNodeText": "should need ssh", "State": "skipped", "Failure": {"Message": "no ssh"}},
 {"ContainerHierarchyTexts": ["[sig-network] LoadBalancers"], "LeafNodeType": "It", "LeafNodeText": "should be had", "State": "timedout", "Failure": {"Message": "gave up\n  after a while\nthird\nfourth"}},
 {"ContainerHierarchyTexts": ["[sig-network] LoadBalancers"], "LeafNodeType": "It", "LeafNodeText": "should cost money", "State": "failed", "Failure": {"Message": "none"}}
]}]`

func TestTable(t *testing.T) {
	results, err := Read([]byte(report))
	if err != nil {
		t.Fatal(err)
	}
	exceptions := []Exception{{Spec: regexp.MustCompile("cost money"), Why: "it is free"}}
	var out strings.Builder
	wrong := Write(&out, "layer 2", results, exceptions)
	if len(wrong) != 1 || wrong[0].Spec != "LoadBalancers should be had" {
		t.Errorf("wrong: %+v", wrong)
	}
	text := regexp.MustCompile(` {2,}`).ReplaceAllString(out.String(), "|")
	for _, want := range []string{
		"Services should work|passed|7|\n",
		"Services should need ssh|skipped|0|no ssh\n",
		"LoadBalancers should be had|FAILED|0|gave up after a while third\n",
		"LoadBalancers should cost money|cannot|0|it is free\n",
		"layer 2: 1 passed, 1 failed, 1 cannot pass, 1 skipped themselves\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "spin") {
		t.Errorf("a spec that was not asked for is in\n%s", text)
	}
	if wrong := Write(&out, "BGP", results, nil); len(wrong) != 2 {
		t.Errorf("without an exception: %+v", wrong)
	}
	if _, err := Read([]byte("no JSON")); err == nil {
		t.Error("text that is not JSON is read as a report")
	}
}

// A group about addresses has a table for each way to announce them, and others have one.
// Groups that ask for as many nodes share a lab.
func TestLabs(t *testing.T) {
	all, err := Ways("")
	if err != nil {
		t.Fatal(err)
	}
	for name, one := range map[string]struct {
		opt  Options
		want []string
	}{
		"all":          {Options{Groups: Groups, Ways: all}, []string{"3: loadbalancers, l2; loadbalancers, bgp; loadbalancers, direct; services, l2", "6: zones, l2"}},
		"BGP":          {Options{Groups: Groups, Ways: []string{BGP}}, []string{"3: loadbalancers, bgp; services, l2", "6: zones, l2"}},
		"by its names": {Options{Groups: Groups[2:], Ways: []string{L2}, Focus: "x"}, []string{"6: focus, l2"}},
	} {
		var got []string
		for _, run := range one.opt.Labs() {
			var titles []string
			for _, t := range run.tables() {
				titles = append(titles, t.title())
			}
			got = append(got, fmt.Sprintf("%d: %s", run.Groups[0].Nodes, strings.Join(titles, "; ")))
		}
		if !slices.Equal(got, one.want) {
			t.Errorf("%s: %q, want %q", name, got, one.want)
		}
	}
}

// Only the ways that are asked for have a pool, and the director is off without its own.
func TestPools(t *testing.T) {
	tables := Options{Groups: Groups[:1], Ways: []string{BGP}}.tables()
	if got := values(tables); slices.Contains(got, "agent.director=auto") || !ways(tables)[BGP] || ways(tables)[L2] {
		t.Errorf("%q, %v", got, ways(tables))
	}
	tables = Options{Groups: Groups[:1], Ways: []string{Direct}}.tables()
	if got := values(tables); !slices.Contains(got, "agent.director=auto") {
		t.Errorf("%q", got)
	}
	for way, pool := range pools {
		data, err := os.ReadFile(filepath.Join("../..", pool.file))
		if err != nil || !strings.Contains(string(data), "  name: "+pool.name+"\n") {
			t.Errorf("%s: no pool %s in %s: %v", way, pool.name, pool.file, err)
		}
	}
}

func TestWays(t *testing.T) {
	if list, err := Ways("bgp,l2"); err != nil || !slices.Equal(list, []string{BGP, L2}) {
		t.Errorf("%q, %v", list, err)
	}
	if _, err := Ways("layer2"); err == nil {
		t.Error("a way that there is not")
	}
}

func TestSelect(t *testing.T) {
	if list, err := Select("loadbalancers,services"); err != nil || len(list) != 2 || list[0].Name != "loadbalancers" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := Select("storage"); err == nil {
		t.Error("a group that there is not")
	}
	for _, g := range Groups {
		for _, text := range []string{g.Focus, g.Skip} {
			if _, err := regexp.Compile(text); err != nil {
				t.Error(err)
			}
		}
	}
}
