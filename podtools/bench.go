package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	benchVersion = 1
	// Of the whole: a card is kept from renters for as long.
	benchLimit = 60 * time.Second
	// Long enough that a second of somebody else's load does not decide.
	cpuTime, memoryTime, diskTime, netTime = 2 * time.Second, 2 * time.Second, 8 * time.Second, 10 * time.Second
	// More of each thread than caches hold, and all of them less than the smallest machine has.
	memoryBlock, memoryThreads = 16 * mebibyte, 4
)

// benchResult is what a machine of one card was measured to do: version 1. Units are in the names;
// null: not measured, never zero.
type benchResult struct {
	Version   int          `json:"version"`
	Seconds   float64      `json:"seconds"`
	CPUSingle *float64     `json:"cpu_single_sha256_mib_s"`
	CPUAll    *float64     `json:"cpu_all_sha256_mib_s"`
	Memory    *float64     `json:"memory_copy_mib_s"`
	DiskKind  *string      `json:"disk_kind"`
	DiskWrite *float64     `json:"disk_write_mib_s"`
	DiskRead  *float64     `json:"disk_read_mib_s"`
	NetDown   *float64     `json:"net_down_mbps"`
	Cards     []drivenCard `json:"cards"`
}

// drivenCard is a card as the vendor's tool names it.
type drivenCard struct {
	UID    string  `json:"uid"`
	Model  string  `json:"model"`
	Memory int64   `json:"memory_mib"`
	Driver *string `json:"driver"`
}

// bench measures for a minute at most and writes the result into the termination message. What
// cannot be measured is null; only a result that cannot be written is an error.
func bench(words []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	message := flags.String("message", "/dev/termination-log", "where the result goes")
	work := flags.String("work", "", "a folder on the disk that is measured")
	size := flags.Int64("disk-mib", 0, "how much is written there; 0: the disk is not measured")
	threads := flags.Int("cpus", 1, "of the container")
	url := flags.String("url", "", "what is downloaded; \"\": the network is not measured")
	line := flags.String("check", "", "the vendor's command: id, model, MiB; \"\": no card is named")
	driver := flags.String("driver", "", "the vendor's command: id, driver")
	if err := flags.Parse(words); err != nil {
		return err
	}
	began := time.Now()
	patience, cancel := context.WithTimeout(context.Background(), benchLimit)
	defer cancel()
	result := benchResult{Version: benchVersion, Cards: benchCards(patience, *line, *driver)}
	result.CPUSingle = hashing(1)
	result.CPUAll = hashing(*threads)
	result.Memory = copying(*threads)
	if *size > 0 {
		result.DiskKind = diskKind(*work)
		result.DiskWrite, result.DiskRead = diskSpeed(patience, *work, *size)
	}
	if *url != "" {
		result.NetDown = downloading(patience, *url)
	}
	result.Seconds = rounded(time.Since(began).Seconds())
	told, err := json.Marshal(result)
	if err != nil {
		return err
	}
	return os.WriteFile(*message, told, 0o644)
}

func benchCards(patience context.Context, line, driver string) []drivenCard {
	found := []drivenCard{}
	drivers := map[string]string{}
	for _, field := range rowsOf(patience, driver, 2) {
		drivers[field[0]] = field[1]
	}
	for _, field := range rowsOf(patience, line, 3) {
		each := drivenCard{field[0], field[1], mebibytes(field[2]), nil}
		if told := drivers[each.UID]; told != "" {
			each.Driver = &told
		}
		found = append(found, each)
	}
	return found
}

// rowsOf is what a vendor's command says, in fields; nothing where it says nothing.
func rowsOf(patience context.Context, line string, fields int) [][]string {
	if line == "" {
		return nil
	}
	said, err := ask(patience, line)
	if err != nil {
		return nil
	}
	var rows [][]string
	for _, row := range strings.Split(string(said), "\n") {
		field := strings.SplitN(row, ",", fields)
		for len(field) < fields {
			field = append(field, "")
		}
		for number := range field {
			field[number] = strings.TrimSpace(field[number])
		}
		if field[0] != "" && len(rows) < mostCards {
			rows = append(rows, field)
		}
	}
	return rows
}

// together runs as many workers at once for a time and adds up the bytes they did, per second.
func together(workers int, long time.Duration, work func(until time.Time) int64) *float64 {
	if workers < 1 {
		workers = 1
	}
	var all sync.WaitGroup
	done := make([]int64, workers)
	began := time.Now()
	for number := range done {
		all.Add(1)
		go func(number int) {
			defer all.Done()
			done[number] = work(began.Add(long))
		}(number)
	}
	all.Wait()
	sum := int64(0)
	for _, each := range done {
		sum += each
	}
	return speed(sum, time.Since(began))
}

func hashing(workers int) *float64 {
	return together(workers, cpuTime, func(until time.Time) int64 {
		block, done := make([]byte, 64<<10), int64(0)
		for time.Now().Before(until) {
			sum := sha256.Sum256(block)
			copy(block, sum[:])
			done += int64(len(block))
		}
		return done
	})
}

func copying(workers int) *float64 {
	if workers > memoryThreads {
		workers = memoryThreads
	}
	return together(workers, memoryTime, func(until time.Time) int64 {
		from, to, done := make([]byte, memoryBlock), make([]byte, memoryBlock), int64(0)
		for number := range from {
			from[number] = byte(number)
		}
		for time.Now().Before(until) {
			done += int64(copy(to, from))
		}
		return done
	})
}

// diskSpeed writes a file until the disk has it, and reads it back from the disk.
func diskSpeed(patience context.Context, folder string, size int64) (write, read *float64) {
	file, err := os.CreateTemp(folder, ".bench-*")
	if err != nil {
		return nil, nil
	}
	defer os.Remove(file.Name())
	defer file.Close()
	block := make([]byte, mebibyte)
	for number := range block { // no disk or file system makes this smaller
		block[number] = byte(number * number >> 3)
	}
	began, done := time.Now(), int64(0)
	for done < size<<20 && time.Since(began) < diskTime && patience.Err() == nil {
		wrote, err := file.Write(block)
		if err != nil {
			return nil, nil
		}
		done += int64(wrote)
	}
	if file.Sync() != nil {
		return nil, nil
	}
	write = speed(done, time.Since(began))
	// Else it would be read from memory.
	if unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED) != nil {
		return write, nil
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return write, nil
	}
	began, done = time.Now(), 0
	for time.Since(began) < diskTime && patience.Err() == nil {
		got, err := file.Read(block)
		done += int64(got)
		if err == io.EOF {
			break
		}
		if err != nil {
			return write, nil
		}
	}
	return write, speed(done, time.Since(began))
}

// diskKind is nvme, ssd or hdd as the kernel knows the disk below a folder; nil where it shows none.
func diskKind(folder string) *string {
	var found syscall.Stat_t
	if syscall.Stat(folder, &found) != nil {
		return nil
	}
	device := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(found.Dev), unix.Minor(found.Dev))
	path, err := filepath.EvalSymlinks(device)
	if err != nil {
		return nil
	}
	kind := ""
	for _, place := range []string{path, filepath.Dir(path)} { // a partition has none of its own
		said, err := os.ReadFile(filepath.Join(place, "queue", "rotational"))
		if err != nil {
			continue
		}
		kind = map[string]string{"0": "ssd", "1": "hdd"}[strings.TrimSpace(string(said))]
		break
	}
	if kind == "ssd" && strings.Contains(path, "/nvme") {
		kind = "nvme"
	}
	if kind == "" {
		return nil
	}
	return &kind
}

// downloading is nil where nothing came.
func downloading(patience context.Context, url string) *float64 {
	limited, cancel := context.WithTimeout(patience, netTime)
	defer cancel()
	asked, err := http.NewRequestWithContext(limited, http.MethodGet, url, nil)
	if err != nil {
		return nil
	}
	answer, err := http.DefaultClient.Do(asked)
	if err != nil {
		return nil
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil
	}
	began := time.Now()
	got, _ := io.Copy(io.Discard, answer.Body) // an end by time is an end
	if got == 0 {
		return nil
	}
	value := rounded(float64(got) * 8 / 1e6 / time.Since(began).Seconds())
	return &value
}

func speed(bytes int64, took time.Duration) *float64 {
	if bytes == 0 || took <= 0 {
		return nil
	}
	value := rounded(float64(bytes) / mebibyte / took.Seconds())
	return &value
}

func rounded(value float64) float64 { return float64(int64(value*10+0.5)) / 10 }
