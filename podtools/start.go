package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

const (
	// How long a helper stays down after it died: long enough that one that cannot start costs
	// nothing, short enough that a renter who tries again is let in.
	helperPause = time.Second
	// How long the start of the container waits for SSH. One that does not come up by then is not
	// waited for: the renter's program runs, and that nobody gets in shows in the proof of the way in.
	greetingLimit = 5 * time.Second

	prSetChildSubreaper = 36 // linux/prctl.h
)

// place is where the keeper of a container finds what it needs.
type place struct{ keys, ssh, report, usage string }

// placed reads the flags that start and keep share.
func placed(name string, words []string) (place, error) {
	var p place
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.StringVar(&p.keys, "keys", "", "folder with host-key, gateway.pub, report-token, ca.pem")
	flags.StringVar(&p.ssh, "ssh", "", "address of the SSH server; none without it")
	flags.StringVar(&p.report, "report", "", "where to report to; no reporter without it")
	flags.StringVar(&p.usage, "usage", "", "the vendor's command for figures of the cards")
	if err := flags.Parse(words); err != nil {
		return p, usage()
	}
	if flags.NArg() > 0 {
		return p, usage()
	}
	return p, nil
}

func (p place) words() []string {
	return []string{"-keys", p.keys, "-ssh", p.ssh, "-report", p.report, "-usage", p.usage}
}

// start leaves a keeper behind in the container and returns once SSH greets. It is the container's
// postStart hook: the image's own command is process 1, started by the runtime as its image says,
// and knows nothing of us.
//
// Whatever is wrong with SSH, the renter's program goes on: a hook that fails would end it.
func start(words []string) error {
	p, err := placed("start", words)
	if err != nil {
		return err
	}
	nothing, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	// What the keeper has to say belongs into the renter's log. The hook's own streams end with it.
	said, err := os.OpenFile("/proc/1/fd/2", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		said = nothing
	}
	made, err := os.StartProcess("/proc/self/exe", append([]string{"podtools", "keep"}, p.words()...),
		&os.ProcAttr{
			Files: []*os.File{nothing, said, said},
			Env:   os.Environ(),
			Sys:   &syscall.SysProcAttr{Setsid: true},
		})
	if err != nil {
		return err
	}
	if err := made.Release(); err != nil {
		return err
	}
	if p.ssh == "" {
		return nil
	}
	for deadline := time.Now().Add(greetingLimit); time.Now().Before(deadline); {
		if said := answers(p.ssh); said != nil && *said == "up" {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Fprintf(os.Stderr, "gpuyard: SSH does not answer at %s yet\n", p.ssh)
	return nil
}

// keep runs the SSH server and the reporter as processes of their own, so that none takes another
// along, and starts again what died. What sessions leave running becomes its child: a program that
// was put into the background goes on after the renter has left, and is buried when it ends, whether
// or not process 1 does so.
func keep(words []string) error {
	p, err := placed("keep", words)
	if err != nil {
		return err
	}
	runtime.LockOSThread() // a child dies with the thread that started it
	if _, _, failed := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); failed != 0 {
		return failed
	}
	os.Setenv("GPUYARD_KEYS", p.keys)
	os.Setenv("GPUYARD_REPORT_URL", p.report)
	os.Setenv("GPUYARD_USAGE", p.usage)
	// Before anything is started, so that no death is missed.
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGTERM, syscall.SIGINT)
	signal.Ignore(syscall.SIGHUP)

	helpers := wanted(p)
	again := make(chan *helper, len(helpers))
	later := func(one *helper) { time.AfterFunc(helperPause, func() { again <- one }) }
	for _, each := range helpers {
		if !each.start() {
			later(each)
		}
	}
	var patience <-chan time.Time // once it was told to end
	for {
		select {
		case each := <-again:
			if patience == nil && !each.start() {
				later(each)
			}
		case <-patience:
			return nil
		case given := <-signals:
			if given != syscall.SIGCHLD && patience == nil {
				patience = time.After(goodbyeLimit + time.Second)
				stop(helpers)
			}
			for pid := bury(); pid > 0; pid = bury() {
				for _, each := range helpers {
					if each.is(pid) {
						each.process = nil
						later(each)
					}
				}
			}
			if patience != nil && !any(helpers) {
				return nil
			}
		}
	}
}

// helper is a process of ours beside the renter's.
type helper struct {
	words   []string
	process *os.Process // nil: not running
}

// wanted are the helpers that this container has what they need for.
func wanted(p place) []*helper {
	var found []*helper
	if p.ssh != "" {
		found = append(found, &helper{words: []string{"sshd", p.ssh}})
	}
	if p.report != "" {
		found = append(found, &helper{words: []string{"report", p.ssh}})
	}
	return found
}

func (h *helper) is(pid int) bool { return h.process != nil && h.process.Pid == pid }

// start says why where it cannot, and whether it could.
func (h *helper) start() bool {
	attributes := &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Env:   os.Environ(),
		Sys:   &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	}
	words := append([]string{"podtools"}, h.words...)
	started, err := os.StartProcess("/proc/self/exe", words, attributes)
	if err != nil {
		fmt.Fprintf(os.Stderr, "gpuyard: no %s: %v\n", h.words[0], err)
		return false
	}
	h.process = started
	return true
}

// stop lets the SSH server say goodbye to whoever is inside.
func stop(helpers []*helper) {
	for _, each := range helpers {
		if each.process != nil {
			each.process.Signal(syscall.SIGTERM)
		}
	}
}

func any(helpers []*helper) bool {
	for _, each := range helpers {
		if each.process != nil {
			return true
		}
	}
	return false
}

// bury collects one child that has ended; 0 when none has, -1 when there is none.
func bury() int {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if err != syscall.EINTR {
			return pid
		}
	}
}
