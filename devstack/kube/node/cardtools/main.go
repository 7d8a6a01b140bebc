// What runs inside pods of a real node beside the renter's own programs: `pause`, which holds a
// pod's namespaces, and look-alikes of the vendors' tools, which tell about the fake cards that the
// container was given. One static binary, called by any of its names.
//
// A container's cards are those whose device nodes it has, as with the real tools, so it does not
// matter what became of its environment. What they are stands in a mounted file, which changes with
// time: usage, temperature, and whether the card still answers.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

const folder = "/run/fake-cards"

type card struct {
	ID          string `json:"id"`
	Model       string `json:"model"`
	Resource    string `json:"resource"`
	MemoryMiB   int    `json:"memory_mib"`
	Driver      string `json:"driver"`
	Toolkit     string `json:"toolkit"`
	Number      int    `json:"number"` // on the machine
	File        string `json:"file"`   // device node that makes it this container's
	UsedMiB     int    `json:"used_mib"`
	Utilization int    `json:"utilization"` // percent
	Celsius     int    `json:"celsius"`
	Dead        bool   `json:"dead"`
}

func main() {
	switch name := filepath.Base(os.Args[0]); name {
	case "pause":
		pause()
	case "nvidia-smi":
		os.Exit(nvidia(os.Args[1:], given("nvidia.com/")))
	case "npu-smi":
		os.Exit(npu(os.Args[1:], given("huawei.com/")))
	default:
		fmt.Fprintf(os.Stderr, "there is no tool %s here\n", name)
		os.Exit(127)
	}
}

// given lists the container's cards of a vendor, by their number on the machine.
func given(prefix string) []card {
	content, err := os.ReadFile(filepath.Join(folder, "cards.json"))
	var all []card
	if err == nil {
		err = json.Unmarshal(content, &all)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(9)
	}
	var found []card
	for _, each := range all {
		if len(each.Resource) < len(prefix) || each.Resource[:len(prefix)] != prefix {
			continue
		}
		if _, err := os.Stat(each.File); err == nil {
			found = append(found, each)
		}
	}
	return found
}

// pause reaps orphans, as the first process of a shared process namespace must, until told to end.
func pause() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for each := range signals {
		if each != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}
