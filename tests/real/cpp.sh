#!/bin/bash
# A C++ program with exceptions, threads and the library's file system.
cat >p.cc <<'END'
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <future>
#include <iostream>
#include <map>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <vector>
struct Guard { std::string name; ~Guard() { std::cout << "left " << name << "\n"; } };
int deep(int n) { Guard g{std::to_string(n)}; if (n == 0) throw std::runtime_error("bottom"); return deep(n - 1) + 1; }
int main() {
    try { deep(3); } catch (const std::exception &e) { std::cout << e.what() << "\n"; }
    try { std::vector<int>().at(1); } catch (const std::out_of_range &) { std::cout << "range\n"; }
    std::atomic<long> sum{0}; std::vector<std::thread> threads;
    for (int i = 0; i < 8; i++) threads.emplace_back([&, i] { for (int j = 0; j < 1000; j++) sum += i; });
    for (auto &t : threads) t.join();
    std::cout << sum << "\n";
    auto f = std::async(std::launch::async, []() -> int { throw std::logic_error("from a thread"); });
    try { f.get(); } catch (const std::logic_error &e) { std::cout << e.what() << "\n"; }
    std::mutex m; std::condition_variable cv; int turn = 0; std::ostringstream log;
    auto play = [&](int me) { for (int i = 0; i < 5; i++) { std::unique_lock l(m); cv.wait(l, [&] { return turn == me; }); log << me; turn = 1 - me; cv.notify_all(); } };
    std::thread a(play, 0), b(play, 1); a.join(); b.join(); std::cout << log.str() << "\n";
    namespace fs = std::filesystem; fs::create_directories("x/y/z"); std::ofstream("x/y/file") << "text"; fs::create_symlink("y", "x/l");
    std::vector<std::string> names; for (auto &e : fs::recursive_directory_iterator("x")) names.push_back(e.path());
    std::sort(names.begin(), names.end()); for (auto &n : names) std::cout << n << " "; std::cout << fs::file_size("x/l/file") << " " << fs::remove_all("x") << "\n";
    thread_local std::map<int, std::string> local{{1, "one"}}; std::cout << local[1] << "\n";
    std::call_once(*new std::once_flag, [] { std::cout << "once\n"; });
}
END
g++ -std=c++17 -O1 -pthread -o p p.cc && ./p; echo "status $?"
echo 'int main() { throw 1; }' | g++ -x c++ -o q - && (ulimit -c 0; ./q) 2>&1 | head -n 1
